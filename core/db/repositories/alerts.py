"""Alert definitions and raised instances, as people read and handle them."""

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import Alert, AlertInstance

InstanceOfAlert = tuple[AlertInstance, str]
"""An instance and the name of its definition."""


@dataclass(frozen=True, slots=True)
class InstanceFilter:
    """Which instances are wanted; None means any."""

    status: str | None = None
    severity: str | None = None
    device_id: UUID | None = None


async def definitions(session: AsyncSession, *, offset: int, limit: int) -> tuple[list[Alert], int]:
    """Return alert definitions by name, and how many there are."""
    total = await session.scalar(select(sa.func.count()).select_from(Alert))
    rows = await session.scalars(
        select(Alert).order_by(col(Alert.name)).offset(offset).limit(limit)
    )
    return list(rows), total or 0


async def instances(
    session: AsyncSession, wanted: InstanceFilter, *, offset: int, limit: int
) -> tuple[list[InstanceOfAlert], int]:
    """Return instances, newest first, and how many match."""
    filters = [
        column == value
        for column, value in (
            (col(AlertInstance.status), wanted.status),
            (col(AlertInstance.severity), wanted.severity),
            (col(AlertInstance.device_id), wanted.device_id),
        )
        if value is not None
    ]
    total = await session.scalar(select(sa.func.count()).select_from(AlertInstance).where(*filters))
    rows = await session.execute(
        select(AlertInstance, Alert.name)
        .join(Alert, col(Alert.id) == col(AlertInstance.alert_id))
        .where(*filters)
        .order_by(col(AlertInstance.raised_at).desc(), col(AlertInstance.id))
        .offset(offset)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in rows], total or 0


async def lock_instance(session: AsyncSession, instance_id: UUID) -> InstanceOfAlert | None:
    """Return one instance, locked until the end of the transaction."""
    rows = await session.execute(
        select(AlertInstance, Alert.name)
        .join(Alert, col(Alert.id) == col(AlertInstance.alert_id))
        .where(col(AlertInstance.id) == instance_id)
        .with_for_update(of=AlertInstance)
    )
    row = rows.first()
    return None if row is None else (row[0], row[1])
