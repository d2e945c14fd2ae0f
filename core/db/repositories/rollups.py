"""Keeps the roll-ups; runs as the owner of the tables, for the devices of all tenants at once.

A row is rolled up by the pass that moves the watermark over its time, or, if it may have been
committed after that, by a repetition of its hour: whoever stores a row that is older than
`LATE_AFTER` notes the hour in `rollup_stale`, in the same transaction. Between the two lies
`BEHIND - LATE_AFTER`, which is the time that a commit may take unnoted (`SLOW_COMMIT`) and the
clocks of two machines may differ.
"""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.repositories.telemetry_rows import OF_A_DEVICE
from core.db.tables import RollupProgress

BEHIND: Final = timedelta(seconds=150)
"""How far the watermark stays behind the clock of the database."""
LATE_AFTER: Final = timedelta(seconds=60)
"""A row older than this when it arrives may be late for its roll-up."""
SLOW_COMMIT: Final = timedelta(seconds=30)
"""A row that was not committed this long after it arrived may be late too."""

ORIGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


class Level(NamedTuple):
    """One width of roll-ups."""

    name: str
    width: timedelta

    @property
    def table(self) -> str:
        """Where its buckets lie."""
        return f"rollup_{self.name}"


LEVELS: Final = (
    Level("1m", MINUTE),
    Level("5m", timedelta(minutes=5)),
    Level("1h", HOUR),
    Level("1d", DAY),
)
"""From the finest; each but the first is made from the one before."""


def floor(at: datetime, width: timedelta) -> datetime:
    """Return the start of the bucket that an instant lies in."""
    return at - (at - ORIGIN) % width


def ceiling(at: datetime, width: timedelta) -> datetime:
    """Return the first start of a bucket that is not before an instant."""
    return at + (ORIGIN - at) % width


_UPSERT = """
    ON CONFLICT (device_id, bucket, metrics_id) DO UPDATE
    SET counts = excluded.counts, mins = excluded.mins, maxs = excluded.maxs,
        sums = excluded.sums, lasts = excluded.lasts, p95s = excluded.p95s,
        newest = excluded.newest
"""
_COLUMNS = "(device_id, bucket, metrics_id, counts, mins, maxs, sums, lasts, p95s, newest)"
_ARRAYS = """
    array_agg(n ORDER BY position), array_agg(least ORDER BY position),
    array_agg(most ORDER BY position), array_agg(total ORDER BY position),
    array_agg(newest ORDER BY position), array_agg(p95 ORDER BY position), max(at)
"""


def _minutes(stretch: str) -> str:
    """Return the statement that makes minutes from measurements of a stretch of time."""
    return f"""
    INSERT INTO rollup_1m {_COLUMNS}
    SELECT device_id, bucket, metrics_id, {_ARRAYS}
    FROM (
        SELECT t.device_id, t.metrics_id, v.position,
               date_bin('1 minute', t.time, :origin) AS bucket,
               count(v.value)::int AS n, min(v.value) AS least, max(v.value) AS most,
               sum(v.value) AS total,
               (array_agg(v.value ORDER BY t.time DESC)
                   FILTER (WHERE v.value IS NOT NULL))[1] AS newest,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY v.value) AS p95,
               max(t.time) AS at
        FROM {stretch}
        CROSS JOIN LATERAL unnest(t.values) WITH ORDINALITY AS v (value, position)
        GROUP BY t.device_id, t.metrics_id, bucket, v.position
    ) AS metric
    GROUP BY device_id, metrics_id, bucket
    {_UPSERT}
    """  # noqa: S608  (constants)


# Of what is spread within the narrower buckets (w) and between them (b), the root of the sum of
# the squares is exact for independent normal values, b alone for a trend; never above the maximum.
P95: Final = (
    "least(max({most}), sum({total}) / nullif(sum({n}), 0) + |/ ("
    "greatest(percentile_cont(0.95) WITHIN GROUP (ORDER BY {total} / nullif({n}, 0))"
    " - sum({total}) / nullif(sum({n}), 0), 0) ^ 2"
    " + greatest(sum({n} * ({p95} - {total} / nullif({n}, 0))) / nullif(sum({n}), 0), 0) ^ 2))"
)
"""Estimate of a wider bucket's 95th percentile from narrower ones, in SQL."""


def _wider(source: Level, target: Level, stretch: str) -> str:
    """Return the statement that makes buckets from narrower ones."""
    p95 = P95.format(most="v.most", total="v.total", n="v.n", p95="v.p95")
    return f"""
    INSERT INTO {target.table} {_COLUMNS}
    SELECT device_id, bucket, metrics_id, {_ARRAYS}
    FROM (
        SELECT r.device_id, r.metrics_id, v.position,
               date_bin('{target.width.total_seconds():.0f} s', r.bucket, :origin) AS bucket,
               sum(v.n)::int AS n, min(v.least) AS least, max(v.most) AS most,
               sum(v.total) AS total,
               (array_agg(v.newest ORDER BY r.newest DESC)
                   FILTER (WHERE v.newest IS NOT NULL))[1] AS newest,
               {p95} AS p95, max(r.newest) AS at
        FROM {stretch.format(source=source.table)}
        CROSS JOIN LATERAL unnest(r.counts, r.mins, r.maxs, r.sums, r.lasts, r.p95s)
            WITH ORDINALITY AS v (n, least, most, total, newest, p95, position)
        GROUP BY r.device_id, r.metrics_id, date_bin(
            '{target.width.total_seconds():.0f} s', r.bucket, :origin), v.position
    ) AS metric
    GROUP BY device_id, metrics_id, bucket
    {_UPSERT}
    """  # noqa: S608  (constants)


_PAIRS = "unnest(CAST(:devices AS uuid[]), CAST(:hours AS timestamptz[])) AS p (device_id, start)"
_ALL_ROWS = "(SELECT * FROM telemetry WHERE time >= :start AND time < :until) AS t"
_ALL_BUCKETS = "(SELECT * FROM {source} WHERE bucket >= :start AND bucket < :until) AS r"
_LATE = OF_A_DEVICE.format(
    device="p.device_id",
    start="p.start",
    until="least(p.start + CAST(:span AS interval), :until)",
)
_LATE_ROWS = _PAIRS + f" CROSS JOIN LATERAL (SELECT p.device_id, r.* FROM ({_LATE}) AS r) AS t"  # noqa: S608
_LATE_BUCKETS = (
    _PAIRS + " JOIN {source} r ON r.device_id = p.device_id AND r.bucket >= p.start "
    "AND r.bucket < least(p.start + CAST(:span AS interval), :until)"
)


def _bound(statement: str) -> sa.TextClause:
    moment = sa.DateTime(timezone=True)
    names = {
        "origin": sa.bindparam("origin", type_=moment),
        "start": sa.bindparam("start", type_=moment),
        "until": sa.bindparam("until", type_=moment),
        "span": sa.bindparam("span", type_=sa.Interval),
        "devices": sa.bindparam("devices", type_=ARRAY(sa.Uuid)),
        "hours": sa.bindparam("hours", type_=ARRAY(moment)),
    }
    return sa.text(statement).bindparams(
        *(parameter for name, parameter in names.items() if f":{name}" in statement)
    )


_FORWARD: Final = (
    _bound(_minutes(_ALL_ROWS)),
    *(_bound(_wider(source, target, _ALL_BUCKETS)) for source, target in pairwise(LEVELS)),
)
_AGAIN: Final = (
    _bound(_minutes(_LATE_ROWS)),
    *(_bound(_wider(source, target, _LATE_BUCKETS)) for source, target in pairwise(LEVELS)),
)


async def watermark(session: AsyncSession, *, lock: bool = False) -> datetime | None:
    """Return up to when buckets are rolled up; None when another process holds the lock."""
    wanted = select(col(RollupProgress.until))
    return await session.scalar(wanted.with_for_update(skip_locked=True) if lock else wanted)


async def advance(session: AsyncSession, *, most: timedelta) -> bool:
    """Roll up what has become old enough and move the watermark; one transaction.

    Args:
        session: The owner's running transaction.
        most: The longest stretch to roll up at once.

    Returns:
        Whether there is more to do.
    """
    start = await watermark(session, lock=True)
    now = await session.scalar(sa.select(sa.func.now()))
    if start is None or now is None:
        return False
    target = floor(now - BEHIND, MINUTE)
    until = min(target, start + most)
    if until <= start:
        return False
    for day in _days(start, until):
        await session.execute(sa.select(sa.func.ensure_rollup_partitions(sa.cast(day, sa.Date))))
        await _summarize(session, day)
    for statement, level in zip(_FORWARD, LEVELS, strict=True):
        first, last = floor(start, level.width), floor(until, level.width)
        if last > first:
            await session.execute(statement, {"origin": ORIGIN, "start": first, "until": last})
    await session.execute(sa.update(RollupProgress).values(until=until))
    return until < target


async def repeat_stale(session: AsyncSession, *, limit: int) -> int:
    """Roll up hours again that got late rows; one transaction. Returns how many notes it took."""
    until = await watermark(session, lock=True)
    if until is None:
        return 0
    taken = (
        await session.execute(
            sa.text(
                "DELETE FROM rollup_stale WHERE id IN "
                "(SELECT id FROM rollup_stale ORDER BY id LIMIT :limit) "
                "RETURNING device_id, hour, hour < coalesce(now() - make_interval(days => "
                "(SELECT p.raw_days - 1 FROM storage_policies p "
                "WHERE p.tenant_id = rollup_stale.tenant_id)), '-infinity') AS expired"
            ),
            {"limit": limit},
        )
    ).all()
    if taken:
        # Of hours whose rows were deleted by policy, the roll-ups know more than the rows.
        stale = {(row.device_id, row.hour) for row in taken if not row.expired}
        await repeat(session, stale, until=until)
    return len(taken)


async def repeat(
    session: AsyncSession, stale: set[tuple[UUID, datetime]], *, until: datetime
) -> None:
    """Roll up these hours of devices again, up to the watermark."""
    hours = sorted((hour, device_id) for device_id, hour in stale if hour < until)
    days = sorted({(floor(hour, DAY), device_id) for hour, device_id in hours})
    for day in sorted({day.date() for day, _ in days}):
        await session.execute(sa.select(sa.func.ensure_rollup_partitions(sa.cast(day, sa.Date))))
    for statement, level in zip(_AGAIN, LEVELS, strict=True):
        pairs = days if level.width > HOUR else hours
        await session.execute(
            statement,
            {
                "origin": ORIGIN,
                "devices": [device_id for _, device_id in pairs],
                "hours": [start for start, _ in pairs],
                "span": max(level.width, HOUR),
                "until": floor(until, level.width),
            },
        )


async def _summarize(session: AsyncSession, day: date) -> None:
    """Let the block indexes of a day know its newest rows, or every pass reads them all."""
    await session.execute(
        sa.text(
            """
            SELECT brin_summarize_new_values(i.indexrelid)
            FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid
            JOIN pg_am a ON a.oid = c.relam AND a.amname = 'brin'
            WHERE i.indrelid = ANY(ARRAY[
                to_regclass('telemetry_p' || :day), to_regclass('rollup_1m_p' || :day),
                to_regclass('rollup_5m_p' || :day), 'rollup_1h'::regclass])
            """
        ),
        {"day": day.strftime("%Y%m%d")},
    )


def _days(start: datetime, until: datetime) -> list[date]:
    first, last = floor(start, DAY), ceiling(until, DAY)
    return [(first + DAY * number).date() for number in range((last - first) // DAY)]
