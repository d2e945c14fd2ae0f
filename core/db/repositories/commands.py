"""Commands to devices as automations send them and wait for the answer."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.repositories.alarms import check_device
from core.db.tables import DeviceCommand


async def open_command(
    session: AsyncSession,
    tenant_id: UUID,
    command_id: UUID,
    device_id: UUID,
    name: str,
    payload: dict[str, Any],
    timeout: timedelta,
) -> DeviceCommand:
    """Add a command and return it, or the one of this id that is there from an earlier try.

    After the commit, publish `bus.DEVICE_DOWN`.

    Raises:
        NotFoundError: The tenant has no such device.
    """
    await check_device(session, tenant_id, device_id)
    await session.execute(
        insert(DeviceCommand)
        .values(
            id=command_id,
            tenant_id=tenant_id,
            device_id=device_id,
            name=name,
            payload=payload,
            expires_at=sa.func.now() + timeout,
        )
        .on_conflict_do_nothing()
    )
    return await get_command(session, tenant_id, command_id)


async def get_command(session: AsyncSession, tenant_id: UUID, command_id: UUID) -> DeviceCommand:
    """Return a command that exists."""
    found = await session.execute(
        select(DeviceCommand).where(
            col(DeviceCommand.tenant_id) == tenant_id, col(DeviceCommand.id) == command_id
        )
    )
    return found.scalar_one()


async def expire_command(session: AsyncSession, tenant_id: UUID, command_id: UUID) -> bool:
    """Give up a command; False when its answer has come meanwhile."""
    expired = await session.execute(
        sa.update(DeviceCommand)
        .where(
            col(DeviceCommand.tenant_id) == tenant_id,
            col(DeviceCommand.id) == command_id,
            col(DeviceCommand.status).in_(("pending", "sent")),
        )
        .values(status="expired")
        .returning(col(DeviceCommand.id))
    )
    return expired.first() is not None
