"""What is sent down to devices: twins and commands, as the API reads and writes them."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.columns import Document
from core.db.tables import DeviceAttributes, DeviceCommand


async def twin(
    session: AsyncSession, *, tenant_id: UUID, device_id: UUID, lock: bool = False
) -> DeviceAttributes:
    """Return the twin of a device, made empty if it has none yet.

    Args:
        session: The running transaction.
        tenant_id: The device's tenant.
        device_id: The device, which must exist.
        lock: Nobody else changes the twin until the end of the transaction.
    """
    statement = select(DeviceAttributes).where(col(DeviceAttributes.device_id) == device_id)
    if lock:
        # Made first, so that there is a row to lock.
        await session.execute(
            insert(DeviceAttributes)
            .values(device_id=device_id, tenant_id=tenant_id)
            .on_conflict_do_nothing()
        )
        statement = statement.with_for_update()
    found = await session.scalar(statement)
    return found or DeviceAttributes(device_id=device_id, tenant_id=tenant_id)


async def replace_desired(session: AsyncSession, row: DeviceAttributes, desired: Document) -> None:
    """Store another desired state and count its version up."""
    row.desired = desired
    row.desired_version += 1
    row.desired_at = await session.scalar(sa.select(sa.func.now()))
    session.add(row)
    await session.flush()


def add_command(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    device_id: UUID,
    name: str,
    payload: Document,
    expires_at: datetime,
) -> DeviceCommand:
    """Add a command; after the commit, publish `bus.DEVICE_DOWN`."""
    command = DeviceCommand(
        tenant_id=tenant_id,
        device_id=device_id,
        name=name,
        payload=payload,
        expires_at=expires_at,
    )
    session.add(command)
    return command


async def get_command(
    session: AsyncSession, device_id: UUID, command_id: UUID
) -> DeviceCommand | None:
    """Return one command of one device, as it is stored now."""
    return await session.scalar(
        select(DeviceCommand)
        .where(col(DeviceCommand.id) == command_id, col(DeviceCommand.device_id) == device_id)
        .execution_options(populate_existing=True)
    )


async def commands(
    session: AsyncSession, device_id: UUID, *, status: str | None, offset: int, limit: int
) -> tuple[list[DeviceCommand], int]:
    """Return a device's commands, newest first, and how many match."""
    filters = [col(DeviceCommand.device_id) == device_id]
    if status is not None:
        filters.append(col(DeviceCommand.status) == status)
    total = await session.scalar(select(sa.func.count()).select_from(DeviceCommand).where(*filters))
    rows = await session.scalars(
        select(DeviceCommand)
        .where(*filters)
        .order_by(col(DeviceCommand.created_at).desc(), col(DeviceCommand.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0
