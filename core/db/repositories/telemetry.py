"""Measurements, as people read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import DeadLetter


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


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest value of one metric."""

    metric: str
    time: datetime
    value: float | None


# The primary key (device_id, time, metrics_id) of each partition answers this in order.
_MESSAGES = sa.text(
    """
    SELECT t.time, t.metrics_id, m.names, t.values, t.quality
    FROM telemetry t JOIN metric_lists m ON m.id = t.metrics_id
    WHERE t.device_id = :device_id AND t.time >= :start AND t.time < :until
      AND (t.time, t.metrics_id) > (:after_time, :after_metrics)
      AND (CAST(:metrics AS text[]) IS NULL OR m.names && CAST(:metrics AS text[]))
    ORDER BY t.time, t.metrics_id
    LIMIT :limit
    """
).bindparams(sa.bindparam("metrics", type_=ARRAY(sa.Text)))

_LATEST = sa.text(
    """
    SELECT DISTINCT ON (v.metric) v.metric, l.time, v.value
    FROM telemetry_latest l
    JOIN metric_lists m ON m.id = l.metrics_id
    CROSS JOIN LATERAL unnest(m.names, l.values) AS v (metric, value)
    WHERE l.device_id = :device_id
    ORDER BY v.metric, l.time DESC
    """
)

_BEFORE_ALL = -1  # metric lists are numbered from 1


async def messages(
    session: AsyncSession,
    device_id: UUID,
    *,
    start: datetime,
    until: datetime,
    metrics: Sequence[str] | None,
    after: tuple[datetime, int] | None,
    limit: int,
) -> list[Message]:
    """Return messages from `start` up to but not at `until`, oldest first.

    Args:
        session: The running transaction.
        device_id: The device, known to be this tenant's.
        start: First instant that belongs.
        until: First instant that does not belong any more.
        metrics: Messages with at least one of these only.
        after: Time and metric list of the last message already seen.
        limit: Most messages to return.
    """
    after_time, after_metrics = after or (start, _BEFORE_ALL)
    rows = await session.execute(
        _MESSAGES,
        {
            "device_id": device_id,
            "start": start,
            "until": until,
            "after_time": after_time,
            "after_metrics": after_metrics,
            "metrics": None if metrics is None else list(metrics),
            "limit": limit,
        },
    )
    return [Message(*row) for row in rows]


async def latest(session: AsyncSession, device_id: UUID) -> list[Latest]:
    """Return the newest value of every metric of a device, by name."""
    rows = await session.execute(_LATEST, {"device_id": device_id})
    return [Latest(*row) for row in rows]


async def dead_letters(
    session: AsyncSession, device_id: UUID, *, offset: int, limit: int
) -> tuple[list[DeadLetter], int]:
    """Return what could not be stored of a device, newest first, and how much there is."""
    mine = col(DeadLetter.device_id) == device_id
    total = await session.scalar(select(sa.func.count()).select_from(DeadLetter).where(mine))
    rows = await session.scalars(
        select(DeadLetter)
        .where(mine)
        .order_by(col(DeadLetter.received_at).desc(), col(DeadLetter.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0
