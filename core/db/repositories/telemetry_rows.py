"""Rows of measurements in the order of time, wherever they lie: as rows, or sealed in blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)

# No block is longer than a day: one that begins earlier does not reach into a range.
OF_A_DEVICE: Final = """
    SELECT t.time, t.metrics_id, t.values, t.quality FROM telemetry t
    WHERE t.device_id = {device} AND t.time >= {start} AND t.time < {until}
    UNION ALL
    SELECT u.at, s.metrics_id, u.numbers, u.scores
    FROM telemetry_sealed s CROSS JOIN LATERAL telemetry_unseal(s, {start}, {until}) u
    WHERE s.device_id = {device} AND s.first >= {start} - INTERVAL '1 day'
      AND s.first < {until} AND s.last >= {start}
"""
"""The rows of a device in a range; for statements that need all of them."""

_BLOCKS_AT_ONCE: Final = 500
_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Message:
    """One stored message.

    Attributes:
        metrics_id: Tells messages of one instant apart; part of the cursor.
        quality: Score 0 to 100 per value; None means all 100.
    """

    time: datetime
    metrics_id: int
    names: list[str]
    values: list[float | None]
    quality: list[int] | None


_PLAIN = """
    SELECT t.time, t.metrics_id, t.values, t.quality FROM telemetry t
    WHERE t.device_id = :device AND t.time >= :start AND t.time < :until
"""
_ALL = OF_A_DEVICE.format(device=":device", start=":start", until=":until")
_READ = """
    SELECT r.time, r.metrics_id, m.names, r.values, r.quality
    FROM ({source}) AS r JOIN metric_lists m ON m.id = r.metrics_id
    WHERE (CAST(:metrics AS text[]) IS NULL OR m.names && CAST(:metrics AS text[]))
      {after}
    ORDER BY r.time {way}, r.metrics_id {way}
    LIMIT :limit
"""
_BLOCKS = """
    SELECT s.first, s.last, s.count FROM telemetry_sealed s
    WHERE s.device_id = :device AND s.first >= :start - INTERVAL '1 day'
      AND s.first < :until AND s.last >= :start
    ORDER BY s.{edge} {way} LIMIT :limit
"""


def _bound(statement: str) -> sa.TextClause:
    moment = sa.DateTime(timezone=True)
    types: dict[str, Any] = {
        "start": moment,
        "until": moment,
        "device": sa.Uuid(),
        "metrics": ARRAY(sa.Text),
        "after_time": moment,
    }
    return sa.text(statement).bindparams(
        *(sa.bindparam(n, type_=kind) for n, kind in types.items() if f":{n}" in statement)
    )


_AFTER = "AND (r.time, r.metrics_id) > (:after_time, :after_metrics)"
_STATEMENTS: Final = {
    (sealed, newest, after): _bound(
        _READ.format(
            source=_ALL if sealed else _PLAIN,
            way="DESC" if newest else "ASC",
            after=_AFTER if after else "",
        )
    )
    for sealed in (False, True)
    for newest in (False, True)
    for after in (False, True)
}
_BLOCKS_OF: Final = {
    newest: _bound(_BLOCKS.format(edge="last" if newest else "first", way="DESC" if newest else ""))
    for newest in (False, True)
}
_COUNT: Final = _bound(f"SELECT count(*) FROM (SELECT 1 FROM ({_ALL}) AS r LIMIT :limit) AS n")  # noqa: S608


async def messages(
    session: AsyncSession,
    device_id: UUID,
    *,
    start: datetime = EARLIEST,
    until: datetime = LATEST,
    limit: int,
    metrics: Sequence[str] | None = None,
    after: tuple[datetime, int] | None = None,
    newest: bool = False,
) -> list[Message]:
    """Return messages from `start` up to but not at `until`, oldest first.

    Args:
        session: The running transaction.
        device_id: The device, known to be this tenant's.
        start: First instant that belongs.
        until: First instant that does not belong any more.
        limit: Most messages to return.
        metrics: Messages with at least one of these only.
        after: Time and metric list of the last message already seen.
        newest: Return the last ones of the range, newest first.
    """
    found: list[Message] = []
    low = start if after is None else max(start, after[0])
    high = until
    while low < high and len(found) < limit:
        sealed, horizon = await _horizon(session, device_id, low, high, limit, newest=newest)
        first, last = (horizon, high) if newest else (low, horizon)
        rows = await session.execute(
            _STATEMENTS[sealed, newest, after is not None],
            {
                "device": device_id,
                "start": first,
                "until": last,
                "metrics": None if metrics is None else list(metrics),
                "limit": limit - len(found),
            }
            | ({} if after is None else {"after_time": after[0], "after_metrics": after[1]}),
        )
        found += [Message(*row) for row in rows]
        low, high = (low, horizon) if newest else (horizon, high)
    return found


async def _horizon(
    session: AsyncSession,
    device_id: UUID,
    low: datetime,
    high: datetime,
    limit: int,
    *,
    newest: bool,
) -> tuple[bool, datetime]:
    """Return whether there are blocks, and how far so many need to be opened for `limit` rows."""
    edge = low if newest else high
    blocks = (
        await session.execute(
            _BLOCKS_OF[newest],
            {"device": device_id, "start": low, "until": high, "limit": _BLOCKS_AT_ONCE},
        )
    ).all()
    rows = 0
    for first, last, count in blocks:
        rows += count
        if rows > limit:
            edge = first if newest else last + _MOMENT
            break
    else:
        if len(blocks) == _BLOCKS_AT_ONCE:
            edge = blocks[-1].first if newest else blocks[-1].last + _MOMENT
    return bool(blocks), max(low, edge) if newest else min(high, edge)


async def count(
    session: AsyncSession, device_id: UUID, *, start: datetime, until: datetime, limit: int
) -> int:
    """Return how many messages a range has, counted up to a limit."""
    found = await session.scalar(
        _COUNT, {"device": device_id, "start": start, "until": until, "limit": limit}
    )
    return found or 0
