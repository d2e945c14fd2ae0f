"""Blocks give back what went in; how the database opens them is tested with the database."""

import struct
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from core.blocks import CONSTANT, MOST_ROWS, RAW, SMALL, WIDE, Block, Row, seal


def open_block(block: Block) -> list[Row]:
    """Return the rows of a block, by the plain words of its description."""
    jitter = block.jitter_small or block.jitter_wide or [0] * block.count
    metrics = len(block.kinds)
    taken = {SMALL: 0, WIDE: 0, RAW: 0}
    columns: list[list[float | None]] = []
    for kind, base, scale in zip(block.kinds, block.bases, block.scales, strict=True):
        if kind == CONSTANT:
            columns.append([base / scale] * block.count)
            continue
        store = {SMALL: block.small, WIDE: block.wide, RAW: block.raw}[kind]
        assert store is not None
        part = store[taken[kind] : taken[kind] + block.count]
        taken[kind] += block.count
        if kind != RAW:
            steps = iter(accumulate((int(step) for step in part if step is not None), initial=base))
            next(steps)
            part = [None if step is None else next(steps) / scale for step in part]
        columns.append(list(part))
    rows: list[Row] = []
    for number in range(block.count):
        quality = None
        if block.quality is not None:
            scores = block.quality[number * metrics : (number + 1) * metrics]
            quality = None if scores[:1] == [None] else scores
        rows.append(
            (
                block.first + number * block.step + jitter[number] * block.tick,
                [column[number] for column in columns],
                quality,  # type: ignore
            )
        )
    return rows


def bits(rows: list[Row]) -> list[object]:
    return [
        (time, [None if v is None else struct.pack("d", v) for v in values], quality)
        for time, values, quality in rows
    ]


_decimals = st.integers(-(10**7), 10**7).map(lambda n: n / 100)
_numbers = st.one_of(
    st.none(), _decimals, st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1e300, 5e-324])
)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    metrics = draw(st.integers(1, 4))
    kind = draw(st.sampled_from([_decimals, _numbers]))
    step = draw(st.sampled_from([1, 999, 1_000_000, 60_000_000]))
    gaps = draw(st.lists(st.sampled_from([step, step, step + 1, 3_000_000_000]), max_size=40))
    scores = st.none() | st.lists(st.integers(0, 100), min_size=metrics, max_size=metrics)
    time, rows = 1_700_000_000_000_000, []
    for gap in gaps:
        time += gap
        rows.append((time, draw(st.lists(kind, min_size=metrics, max_size=metrics)), draw(scores)))
    return rows


@given(tables())
def test_every_bit_comes_back(rows: list[Row]) -> None:
    opened = [row for block in seal(rows) for row in open_block(block)]
    assert bits(opened) == bits(rows)


def test_decimals_of_a_steady_sensor_take_sixteen_bits_and_no_times() -> None:
    rows: list[Row] = [
        (1_700_000_000_000_000 + n * 1_000_000, [round(20 + (n % 700) / 100, 2), 5.0], None)
        for n in range(MOST_ROWS + 10)
    ]
    first, second = seal(rows)
    assert (first.kinds, first.scales) == ([SMALL, CONSTANT], [100.0, 1.0])
    assert first.jitter_small is None
    assert first.jitter_wide is None
    assert first.small is not None
    assert len(first.small) == first.count == MOST_ROWS
    assert second.count == 10


def test_a_gap_begins_a_new_block() -> None:
    times = [n * 1_000_000 for n in range(300)] + [10**10 + n * 1_000_000 for n in range(300)]
    blocks = list(seal([(time, [1.5], None) for time in times]))
    assert [block.count for block in blocks] == [300, 300]
    assert all(block.jitter_small is None for block in blocks)
