"""Measurements of one device and metric list as a block: a few numbers and many small steps.

Sensors give decimals: 21.37 is 2137 / 100. A block holds, for every metric, the first of its scaled
values and the steps from one to the next, in 16 or 32 bits, which PostgreSQL compresses well
because they are small; values that are no decimals of up to nine digits stay as they are. Times are
a straight line and the distances from it. Nothing is rounded: a value that would not come back bit
by bit is not scaled. The database opens blocks by its function `telemetry_unseal`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MOST_ROWS: Final = 4096
MOST_VALUES: Final = 32_768
"""Bounds of a block: what has to be decoded for one row."""
_LEAST_ROWS: Final = 256
_GAP: Final = 64  # steps without a row after which a new block begins
_DIGITS: Final = 9
_EXACT: Final = 2.0**53

CONSTANT: Final = 0
SMALL: Final = 2
WIDE: Final = 4
RAW: Final = 8

Row = tuple[int, Sequence[float | None], Sequence[int] | None]
"""Time in microseconds since 1970, values, quality."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows in their sealed form; columns of `telemetry_sealed`.

    Attributes:
        first, last: Times of the first and last row, microseconds since 1970.
        step: Microseconds from row to row, nearly.
        tick: Microseconds that the jitter counts.
        kinds: How each metric is stored: CONSTANT, SMALL, WIDE or RAW.
        bases, scales: A value is (base + the steps up to it) / scale.
        small, wide, raw: Steps (or values) of all metrics of that kind, metric after metric;
            None where a value is null.
        quality: Scores row after row; None when every row has none.
    """

    first: int
    last: int
    count: int
    step: int
    tick: int
    kinds: list[int]
    bases: list[int]
    scales: list[float]
    jitter_small: list[int] | None
    jitter_wide: list[int] | None
    small: list[int | None] | None
    wide: list[int | None] | None
    raw: list[float | None] | None
    quality: list[int | None] | None


def seal(rows: Sequence[Row]) -> Iterator[Block]:
    """Yield the blocks of rows of one device, metric list and day, ascending in time."""
    if not rows:
        return
    most = max(_LEAST_ROWS, min(MOST_ROWS, MOST_VALUES // max(1, len(rows[0][1]))))
    times = np.array([row[0] for row in rows], dtype=np.int64)
    gaps = np.diff(times)
    far = _GAP * max(1, int(np.median(gaps))) if len(gaps) else 0
    start = 0
    for number in range(1, len(rows) + 1):
        size = number - start
        ends = number == len(rows) or size == most
        if ends or (size >= _LEAST_ROWS and gaps[number - 1] > far):
            yield from _sealed(rows[start:number], times[start:number])
            start = number


def _sealed(rows: Sequence[Row], times: NDArray[np.int64]) -> Iterator[Block]:
    line = _line(times)
    if line is None:  # hours apart by microseconds: no 32 bits hold that
        middle = len(rows) // 2
        yield from _sealed(rows[:middle], times[:middle])
        yield from _sealed(rows[middle:], times[middle:])
        return
    step, tick, jitter = line
    kinds: list[int] = []
    bases: list[int] = []
    scales: list[float] = []
    values: dict[int, list[Any]] = {SMALL: [], WIDE: [], RAW: []}
    for column in zip(*(row[1] for row in rows), strict=True):
        kind, base, scale, stored = _column(column)
        kinds.append(kind)
        bases.append(base)
        scales.append(scale)
        if kind != CONSTANT:
            values[kind] += stored
    scores: list[int | None] | None = None
    if any(row[2] is not None for row in rows):
        scores = []
        for _, row_values, quality in rows:
            scores += [None] * len(row_values) if quality is None else list(quality)
    narrow = not len(jitter) or bool(np.abs(jitter).max() < 2**15)
    yield Block(
        first=int(times[0]),
        last=int(times[-1]),
        count=len(rows),
        step=step,
        tick=tick,
        kinds=kinds,
        bases=bases,
        scales=scales,
        jitter_small=jitter.tolist() if len(jitter) and narrow else None,
        jitter_wide=jitter.tolist() if len(jitter) and not narrow else None,
        small=values[SMALL] or None,
        wide=values[WIDE] or None,
        raw=values[RAW] or None,
        quality=scores,
    )


def _line(times: NDArray[np.int64]) -> tuple[int, int, NDArray[np.int64]] | None:
    """Return step, tick and jitter of the better of two lines; None when 32 bits are too few."""
    count = len(times)
    if count == 1:
        return 0, 1, np.empty(0, np.int64)
    offsets = times - times[0]
    tick = 1000 if not (offsets % 1000).any() else 1
    number = np.arange(count)
    best: tuple[int, NDArray[np.int64]] | None = None
    for guess in (int(np.median(np.diff(times))), int(offsets[-1]) // (count - 1)):
        step = guess // tick * tick
        jitter = (offsets - number * step) // tick
        if best is None or np.abs(jitter).max() < np.abs(best[1]).max():
            best = step, jitter
    assert best is not None
    step, jitter = best
    if np.abs(jitter).max() >= 2**31:
        return None
    return step, tick, jitter if jitter.any() else np.empty(0, np.int64)


def _column(column: Sequence[float | None]) -> tuple[int, int, float, list[Any]]:
    """Return kind, base, scale and what is stored of one metric."""
    absent = [value is None for value in column]
    there = np.array([value for value in column if value is not None], dtype=np.float64)
    scaled = _scaled(there)
    if scaled is None:
        return RAW, 0, 1.0, list(column)
    whole, scale = scaled
    if not len(whole):
        return SMALL, 0, 1.0, [None] * len(column)
    base = int(whole[0])
    steps = np.diff(whole, prepend=whole[:1])
    most = int(np.abs(steps).max())
    if most == 0 and not any(absent):
        return CONSTANT, base, scale, []
    if most >= 2**31:
        return RAW, 0, 1.0, list(column)
    kind = SMALL if most < 2**15 else WIDE
    numbers = iter(steps.tolist())
    return kind, base, scale, [None if gone else next(numbers) for gone in absent]


def _scaled(values: NDArray[np.float64]) -> tuple[NDArray[np.int64], float] | None:
    """Return the values as whole numbers and their common scale; None when there is none."""
    if not np.isfinite(values).all():
        return None
    bits = values.view(np.int64)
    for digits in range(_DIGITS + 1):
        scale = 10.0**digits
        product = np.rint(values * scale)
        if len(product) and np.abs(product).max() >= _EXACT:
            return None
        whole = product.astype(np.int64)
        if np.array_equal((whole / scale).view(np.int64), bits):
            return whole, scale
    return None
