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
class Latest:
    """The newest value of one metric."""

    metric: str
    time: datetime
    value: float | None


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


@dataclass(frozen=True, slots=True)
class LatestRow:
    """The newest message of a device with one list of metrics."""

    device_id: UUID
    time: datetime
    names: list[str]
    values: list[float | None]


_LATEST_OF = sa.text(
    """
    WITH wanted AS (
        SELECT id FROM devices
        WHERE (CAST(:devices AS uuid[]) IS NULL OR id = ANY(CAST(:devices AS uuid[])))
          AND (CAST(:profile AS text) IS NULL
               OR profile_id IN (SELECT id FROM device_profiles WHERE name = :profile))
          AND (CAST(:site AS text) IS NULL OR site = :site)
          AND (CAST(:after AS uuid) IS NULL OR id > :after)
        ORDER BY id LIMIT :limit
    )
    SELECT w.id, l.time, m.names, l.values
    FROM wanted w
    LEFT JOIN telemetry_latest l ON l.device_id = w.id
    LEFT JOIN metric_lists m ON m.id = l.metrics_id
    ORDER BY w.id, l.time
    """
).bindparams(sa.bindparam("devices", type_=ARRAY(sa.Uuid)), sa.bindparam("after", type_=sa.Uuid))


async def latest_of(
    session: AsyncSession,
    *,
    devices: Sequence[UUID] | None,
    profile: str | None,
    site: str | None,
    after: UUID | None,
    limit: int,
) -> dict[UUID, list[LatestRow]]:
    """Return the newest messages of many devices, by device id; the newest of each comes last.

    Args:
        session: The running transaction.
        devices: Only these; None is all.
        profile: Only devices of the profile of this name.
        site: Only devices of this site.
        after: Only devices whose id comes after this one.
        limit: Most devices; one that has sent nothing yet counts, with no message.
    """
    found: dict[UUID, list[LatestRow]] = {}
    rows = await session.execute(
        _LATEST_OF,
        {
            "devices": None if devices is None else list(devices),
            "profile": profile,
            "site": site,
            "after": after,
            "limit": limit,
        },
    )
    for device_id, time, names, values in rows:
        of_device = found.setdefault(device_id, [])
        if time is not None:
            of_device.append(LatestRow(device_id, time, names, values))
    return found


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
