"""Sealing: the rows of one device and day become blocks, in one transaction.

Runs as the owner of the tables. Rows are deleted only where a block gives back the same values, so
a transaction that is killed leaves the rows, and one that commits has lost nothing.
"""

from collections import defaultdict
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from core.blocks import Row, seal
from core.db.repositories.ingest import SEALING_LOCK
from core.db.repositories.rollups import DAY, ORIGIN
from core.db.tables import SealedTelemetry
from core.errors import IoTLinkerError


class NotLosslessError(IoTLinkerError):
    """A block does not give back the rows it was made of; nothing was changed."""

    code = "not_lossless"


class Sealed(NamedTuple):
    """What became of a device's day."""

    rows: int
    blocks: int


_MOMENTS = {
    "start": sa.DateTime(timezone=True),
    "until": sa.DateTime(timezone=True),
    "device": sa.Uuid(),
}


def _bound(statement: str) -> sa.TextClause:
    return sa.text(statement).bindparams(
        *(sa.bindparam(n, type_=kind) for n, kind in _MOMENTS.items() if f":{n}" in statement)
    )


_ROWS = _bound(
    """
    SELECT time, metrics_id, values, quality FROM telemetry
    WHERE device_id = :device AND time >= :start AND time < :until ORDER BY metrics_id, time
    """
)
_BLOCKS = _bound(
    """
    SELECT u.at, s.metrics_id, u.numbers, u.scores
    FROM telemetry_sealed s CROSS JOIN LATERAL telemetry_unseal(s, '-infinity', 'infinity') u
    WHERE s.device_id = :device AND s.first >= :start AND s.first < :until
    """
)
_REMOVE_BLOCKS = _bound(
    "DELETE FROM telemetry_sealed WHERE device_id = :device AND first >= :start AND first < :until"
)
_REMOVE_SAME = _bound(
    """
    DELETE FROM telemetry t
    USING (
        SELECT u.at AS time, s.metrics_id, u.numbers AS values, u.scores AS quality
        FROM telemetry_sealed s
        CROSS JOIN LATERAL telemetry_unseal(s, '-infinity', 'infinity') u
        WHERE s.device_id = :device AND s.first >= :start AND s.first < :until
    ) AS b
    WHERE t.device_id = :device AND t.time >= :start AND t.time < :until
      AND t.time = b.time AND t.metrics_id = b.metrics_id
      AND t.values = b.values AND t.quality IS NOT DISTINCT FROM b.quality
    """
)
# What was sealed first counts, as what was stored first does for rows.
_REMOVE_REPEATED = _bound(
    """
    DELETE FROM telemetry t USING (
        SELECT unnest(CAST(:times AS timestamptz[])) AS time,
               unnest(CAST(:lists AS integer[])) AS metrics_id
    ) AS b
    WHERE t.device_id = :device AND t.time >= :start AND t.time < :until
      AND t.time = b.time AND t.metrics_id = b.metrics_id
    """
)


async def unsealed_days(
    session: AsyncSession, device_id: UUID, before: datetime, limit: int
) -> list[date]:
    """Return the days (UTC) before an instant of which a device has rows, oldest first."""
    days: list[date] = []
    start: datetime | None = None
    while len(days) < limit:
        oldest = await session.scalar(
            sa.text(
                "SELECT min(time) FROM telemetry WHERE device_id = :device AND time < :before "
                "AND time >= coalesce(CAST(:start AS timestamptz), '-infinity')"
            ).bindparams(sa.bindparam("device", type_=sa.Uuid)),
            {"device": device_id, "before": before, "start": start},
        )
        if oldest is None:
            break
        days.append(oldest.date())
        start = day_start(oldest.date()) + DAY
    return days


def day_start(day: date) -> datetime:
    """Return the first instant of a day in UTC."""
    return ORIGIN + (day - ORIGIN.date())


async def seal_day(session: AsyncSession, device_id: UUID, day: date) -> Sealed:
    """Turn a device's rows of a day into blocks, together with blocks it has of that day.

    Rows that arrive meanwhile stay beside the blocks and are sealed the next time.

    Raises:
        NotLosslessError: The blocks would lose something.
    """
    start = day_start(day)
    place = {"device": device_id, "start": start, "until": start + DAY}
    await session.execute(
        sa.select(sa.func.pg_advisory_xact_lock(SEALING_LOCK, (day - ORIGIN.date()).days))
    )
    rows = (await session.execute(_ROWS, place)).all()
    if not rows:
        return Sealed(0, 0)
    known: dict[tuple[int, datetime], Row] = {
        (metrics_id, time): (_microseconds(time), values, quality)
        for time, metrics_id, values, quality in await session.execute(_BLOCKS, place)
    }
    repeated: list[tuple[int, datetime]] = []
    for time, metrics_id, values, quality in rows:
        if (metrics_id, time) in known:
            repeated.append((metrics_id, time))
        else:
            known[metrics_id, time] = (_microseconds(time), values, quality)
    await session.execute(_REMOVE_BLOCKS, place)
    lists: dict[int, list[Row]] = defaultdict(list)
    for (metrics_id, _), row in sorted(known.items()):
        lists[metrics_id].append(row)
    if repeated:
        await session.execute(
            _REMOVE_REPEATED,
            place | {"times": [time for _, time in repeated], "lists": [n for n, _ in repeated]},
        )
    blocks = await _insert(session, device_id, lists)
    removed = await session.execute(_REMOVE_SAME, place)
    assert isinstance(removed, sa.CursorResult)
    if removed.rowcount != len(rows) - len(repeated):
        raise NotLosslessError(
            f"of {len(rows)} rows of {device_id} on {day} blocks give back {removed.rowcount}"
        )
    return Sealed(len(rows), blocks)


async def _insert(session: AsyncSession, device_id: UUID, lists: dict[int, list[Row]]) -> int:
    blocks = [
        {
            **asdict(block),
            "device_id": device_id,
            "metrics_id": metrics_id,
            "first": _UNIX + timedelta(microseconds=block.first),
            "last": _UNIX + timedelta(microseconds=block.last),
        }
        for metrics_id, rows in lists.items()
        for block in seal(rows)
    ]
    for block in blocks:  # one by one: together their parameters could take gigabytes
        await session.execute(sa.insert(SealedTelemetry).values(**block))
    return len(blocks)


async def reclaim(session: AsyncSession, day: date) -> bool:
    """Give the space of a day's rows back when every one of them is sealed or deleted."""
    name = f"telemetry_p{day:%Y%m%d}"
    size = await session.scalar(
        sa.text("SELECT pg_total_relation_size(to_regclass(:name))"), {"name": name}
    )
    if not size:
        return False
    # Whoever reads or writes this day goes first: the next time is as good.
    await session.execute(sa.text("SET LOCAL lock_timeout = '500ms'"))
    await session.execute(sa.text(f"LOCK TABLE ONLY {name} IN ACCESS EXCLUSIVE MODE"))
    if await session.scalar(sa.text(f"SELECT EXISTS (SELECT FROM {name})")):  # noqa: S608 # ours
        return False
    await session.execute(sa.text(f"TRUNCATE {name}"))
    return True


_UNIX: Final = datetime(1970, 1, 1, tzinfo=ORIGIN.tzinfo)


def _microseconds(time: datetime) -> int:
    return (time - _UNIX) // timedelta(microseconds=1)
