"""Measurements summed up by time: from roll-ups where they are complete, from rows elsewhere.

A range is cut into pieces: whole buckets of the width that is asked for, then narrower ones at its
ends, and rows for what lies after the watermark and for hours with late rows that are not rolled up
again yet. So an answer is true at any time, and reads few rows.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.repositories.rollups import DAY, HOUR, LEVELS, ORIGIN, P95, Level, ceiling, floor
from core.db.repositories.telemetry_rows import OF_A_DEVICE


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one metric did in one stretch of time that starts at `time`.

    Attributes:
        p95: 95th percentile; an estimate unless `p95_exact`.
    """

    time: datetime
    metric: str
    avg: float
    min: float
    max: float
    count: int
    last: float
    p95: float
    p95_exact: bool


class Piece(NamedTuple):
    """A part of a range and where to read it; rows when there is no level."""

    level: Level | None
    start: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class _Partial:
    """A bucket's share from one piece."""

    time: datetime
    metric: str
    count: int
    min: float
    max: float
    sum: float
    last: float
    p95: float
    at: datetime
    exact: bool


def plan(
    start: datetime,
    until: datetime,
    *,
    width: timedelta,
    watermark: datetime,
    stale: Iterable[datetime],
    kept: Mapping[str, datetime] | None = None,
) -> list[Piece]:
    """Return the pieces of a range, in order and without gap or overlap.

    Args:
        start: First instant of the range.
        until: First instant after it.
        width: Of the buckets asked for; that of one of the levels.
        watermark: Up to when buckets are rolled up.
        stale: Starts of hours whose roll-ups are not complete.
        kept: By name of a level, from when on its buckets are kept; before that they may be gone.
    """
    usable = [level for level in LEVELS if level.width <= width]
    pieces: list[Piece] = []
    _cover(pieces, start, until, usable, watermark, sorted(set(stale)), kept or {})
    return pieces


def _cover(
    pieces: list[Piece],
    start: datetime,
    until: datetime,
    usable: Sequence[Level],
    watermark: datetime,
    stale: Sequence[datetime],
    kept: Mapping[str, datetime],
) -> None:
    if start >= until:
        return
    if not usable:
        last = pieces[-1] if pieces else None
        if last is not None and last.level is None and last.until == start:
            start = pieces.pop().start
        pieces.append(Piece(None, start, until))
        return
    *finer, level = usable
    low = ceiling(max(start, kept.get(level.name, start)), level.width)
    high = floor(min(until, watermark), level.width)
    if low >= high:
        _cover(pieces, start, until, finer, watermark, stale, kept)
        return
    _cover(pieces, start, low, finer, watermark, stale, kept)
    at = low
    for hour in stale:
        first = max(floor(hour, level.width), low)
        after = min(max(floor(hour, level.width) + level.width, hour + HOUR), high)
        if after <= at or first >= high:
            continue
        if first > at:
            pieces.append(Piece(level, at, first))
        _cover(pieces, max(first, at), after, finer, watermark, stale, kept)
        at = after
    if at < high:
        pieces.append(Piece(level, at, high))
    _cover(pieces, high, until, finer, watermark, stale, kept)


_PICKED = """
      AND (CAST(:metrics AS text[]) IS NULL OR v.metric = ANY(CAST(:metrics AS text[])))
"""
_PIECES = (
    "unnest(CAST(:starts AS timestamptz[]), CAST(:untils AS timestamptz[])) AS p (start, till)"
)


def _bound(statement: str) -> sa.TextClause:
    moment = sa.DateTime(timezone=True)
    types = {
        "metrics": ARRAY(sa.Text),
        "origin": moment,
        "starts": ARRAY(moment),
        "untils": ARRAY(moment),
        "width": sa.Interval,
        "device_id": sa.Uuid,
    }
    return sa.text(statement).bindparams(
        *(sa.bindparam(n, type_=kind) for n, kind in types.items() if f":{n}" in statement)
    )


_ROWS = """
    SELECT date_bin(:width, t.time, :origin) AS start, v.metric, count(*), min(v.value),
           max(v.value), sum(v.value), (array_agg(v.value ORDER BY t.time DESC))[1],
           percentile_cont(0.95) WITHIN GROUP (ORDER BY v.value), max(t.time)
    FROM {pieces}
    CROSS JOIN LATERAL ({rows}) AS t
    JOIN metric_lists m ON m.id = t.metrics_id
    CROSS JOIN LATERAL unnest(m.names, t.values) AS v (metric, value)
    WHERE v.value IS NOT NULL {picked}
    GROUP BY 1, v.metric
    LIMIT :limit
"""
_FROM_ROWS = _bound(
    _ROWS.format(
        pieces=_PIECES,
        picked=_PICKED,
        rows=OF_A_DEVICE.format(device=":device_id", start="p.start", until="p.till"),
    )
)

# Buckets as they lie in their table: most of what is read.
_AS_THEY_ARE = """
    SELECT r.bucket, v.metric, v.n, v.least, v.most, v.total, v.newest, v.p95, r.newest
    FROM {pieces}
    JOIN {table} r ON r.device_id = :device_id AND r.bucket >= p.start AND r.bucket < p.till
    JOIN metric_lists m ON m.id = r.metrics_id
    CROSS JOIN LATERAL unnest(m.names, r.counts, r.mins, r.maxs, r.sums, r.lasts, r.p95s)
        AS v (metric, n, least, most, total, newest, p95)
    WHERE v.n > 0 {picked}
    LIMIT :limit
"""
_SUMMED_UP = """
    SELECT date_bin(:width, r.bucket, :origin), v.metric, sum(v.n)::bigint, min(v.least),
           max(v.most), sum(v.total), (array_agg(v.newest ORDER BY r.newest DESC))[1], {p95},
           max(r.newest)
    FROM {pieces}
    JOIN {table} r ON r.device_id = :device_id AND r.bucket >= p.start AND r.bucket < p.till
    JOIN metric_lists m ON m.id = r.metrics_id
    CROSS JOIN LATERAL unnest(m.names, r.counts, r.mins, r.maxs, r.sums, r.lasts, r.p95s)
        AS v (metric, n, least, most, total, newest, p95)
    WHERE v.n > 0 {picked}
    GROUP BY 1, v.metric
    LIMIT :limit
"""
_P95: Final = P95.format(most="v.most", total="v.total", n="v.n", p95="v.p95")
_OWN: Final = {
    level: _bound(_AS_THEY_ARE.format(pieces=_PIECES, picked=_PICKED, table=level.table))
    for level in LEVELS
}
_FINER: Final = {
    level: _bound(_SUMMED_UP.format(pieces=_PIECES, picked=_PICKED, table=level.table, p95=_P95))
    for level in LEVELS
}

_STATE = sa.text(
    """
    SELECT p.until, ARRAY(
        SELECT DISTINCT s.hour FROM rollup_stale s
        WHERE s.device_id = :device_id AND s.hour > :start - INTERVAL '1 hour' AND s.hour < :until
    ),
    s.minute_days, s.five_minute_days, s.hour_days, s.day_days, now()
    FROM rollup_progress p LEFT JOIN storage_policies s ON true
    """
).bindparams(
    sa.bindparam("start", type_=sa.DateTime(timezone=True)),
    sa.bindparam("until", type_=sa.DateTime(timezone=True)),
)


async def buckets(
    session: AsyncSession,
    device_id: UUID,
    *,
    start: datetime,
    until: datetime,
    width: timedelta,
    metrics: Sequence[str] | None,
    limit: int,
) -> list[Bucket]:
    """Return what each metric did per bucket, oldest first.

    Buckets start at whole multiples of `width` (UTC) and hold what lies in the range only; values
    that were null do not count. `limit` bounds what is read of each kind of source.
    """
    state = (
        await session.execute(_STATE, {"device_id": device_id, "start": start, "until": until})
    ).one()
    found: dict[tuple[datetime, str], list[_Partial]] = defaultdict(list)
    sources: dict[Level | None, list[Piece]] = defaultdict(list)
    watermark, stale, *days, now = state
    kept = {
        # A day more than the policy says: it is applied at night.
        level.name: floor(now - timedelta(days=count - 1), DAY)
        for level, count in zip(LEVELS, days, strict=True)
        if count is not None
    }
    for piece in plan(start, until, width=width, watermark=watermark, stale=stale, kept=kept):
        sources[piece.level].append(piece)
    for level, pieces in sources.items():
        if level is None:
            statement = _FROM_ROWS
        elif level.width == width:
            statement = _OWN[level]
        else:
            statement = _FINER[level]
        rows = await session.execute(
            statement,
            {
                "device_id": device_id,
                "origin": ORIGIN,
                "starts": [piece.start for piece in pieces],
                "untils": [piece.until for piece in pieces],
                "width": width,
                "metrics": None if metrics is None else list(metrics),
                "limit": limit,
            },
        )
        exact = level is None or (level == LEVELS[0] and level.width == width)
        for row in rows:
            found[row[0], row[1]].append(_Partial(*row, exact=exact))
    return [_merge(found[key]) for key in sorted(found)]


def _merge(partials: list[_Partial]) -> Bucket:
    """Return the bucket that these are shares of."""
    if len(partials) == 1:
        (only,) = partials
        return Bucket(
            only.time,
            only.metric,
            only.sum / only.count,
            only.min,
            only.max,
            only.count,
            only.last,
            only.p95,
            only.exact,
        )
    newest = max(partials, key=lambda partial: partial.at)
    count = sum(partial.count for partial in partials)
    mean = sum(partial.sum for partial in partials) / count
    most = max(partial.max for partial in partials)
    return Bucket(
        newest.time,
        newest.metric,
        mean,
        min(partial.min for partial in partials),
        most,
        count,
        newest.last,
        _p95(partials, count, mean, most),
        p95_exact=False,
    )


def _p95(partials: list[_Partial], count: int, mean: float, most: float) -> float:
    """Estimate as `rollups.P95` does, each mean weighing as much as it has values."""
    means = sorted((partial.sum / partial.count, partial.count) for partial in partials)
    places: list[tuple[float, float]] = []
    seen = 0
    for value, weight in means:
        places += [(seen, value), (seen + weight - 1, value)]
        seen += weight
    wanted = 0.95 * (count - 1)
    high = next(
        low[1] + (up[1] - low[1]) * ((wanted - low[0]) / (up[0] - low[0]) if up[0] > low[0] else 0)
        for low, up in pairwise(places)
        if low[0] <= wanted <= up[0]
    )
    within = sum(p.count * (p.p95 - p.sum / p.count) for p in partials) / count
    return min(most, mean + (max(high - mean, 0) ** 2 + max(within, 0) ** 2) ** 0.5)
