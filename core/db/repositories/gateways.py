"""Devices behind others, claims and provisioning keys, as people manage them."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import Device, DeviceClaim, GatewayChild, ProvisioningKey

ChildOfGateway = tuple[GatewayChild, Device]


async def page(
    session: AsyncSession, gateway_id: UUID, *, offset: int, limit: int
) -> tuple[list[ChildOfGateway], int]:
    """Return devices that a gateway may speak for, by its names, and how many."""
    own = col(GatewayChild.gateway_id) == gateway_id
    total = await session.scalar(select(sa.func.count()).select_from(GatewayChild).where(own))
    rows = await session.execute(
        select(GatewayChild, Device)
        .join(Device, col(Device.id) == col(GatewayChild.device_id))
        .where(own)
        .order_by(col(GatewayChild.name), col(GatewayChild.device_id))
        .offset(offset)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in rows], total or 0


async def child_named(session: AsyncSession, gateway_id: UUID, name: str) -> GatewayChild | None:
    """Return the device that a gateway means by a name."""
    return await session.scalar(
        select(GatewayChild).where(
            col(GatewayChild.gateway_id) == gateway_id, col(GatewayChild.name) == name
        )
    )


async def assign(
    session: AsyncSession, *, tenant_id: UUID, gateway_id: UUID, device_id: UUID, name: str
) -> None:
    """Let a gateway speak for a device; under another name, if it did before."""
    await session.execute(
        insert(GatewayChild)
        .values(tenant_id=tenant_id, gateway_id=gateway_id, device_id=device_id, name=name)
        .on_conflict_do_update(index_elements=["gateway_id", "device_id"], set_={"name": name})
    )


async def unassign(session: AsyncSession, gateway_id: UUID, device_id: UUID) -> bool:
    """Take a device from a gateway; False when it had not been given to it."""
    gone = await session.execute(
        sa.delete(GatewayChild)
        .where(col(GatewayChild.gateway_id) == gateway_id, col(GatewayChild.device_id) == device_id)
        .returning(col(GatewayChild.device_id))
    )
    return gone.first() is not None


async def claim(
    session: AsyncSession, device_id: UUID, secret_sha256: bytes, user_id: UUID
) -> DeviceClaim | None:
    """Claim a device; None when it cannot be claimed with this secret now."""
    return await session.scalar(
        sa.update(DeviceClaim)
        .where(
            col(DeviceClaim.device_id) == device_id,
            col(DeviceClaim.secret_sha256) == secret_sha256,
            col(DeviceClaim.expires_at) > sa.func.now(),
            col(DeviceClaim.claimed_at).is_(None),
        )
        .values(claimed_at=sa.func.now(), claimed_by=user_id)
        .returning(DeviceClaim)
        .execution_options(populate_existing=True)
    )


async def provisioning_key(session: AsyncSession, profile_id: UUID) -> ProvisioningKey | None:
    """Return what lets devices of a profile ask for credentials."""
    return await session.scalar(
        select(ProvisioningKey).where(col(ProvisioningKey.profile_id) == profile_id)
    )


async def set_provisioning_key(
    session: AsyncSession, *, tenant_id: UUID, profile_id: UUID, key: str, secret_sha256: bytes
) -> ProvisioningKey:
    """Replace what lets devices of a profile ask for credentials."""
    values = {"key": key, "secret_sha256": secret_sha256, "created_at": sa.func.now()}
    await session.execute(
        insert(ProvisioningKey)
        .values(tenant_id=tenant_id, profile_id=profile_id, **values)
        .on_conflict_do_update(index_elements=["profile_id"], set_=values)
    )
    found = await provisioning_key(session, profile_id)
    assert found is not None
    await session.refresh(found)
    return found


async def forget_provisioning_key(session: AsyncSession, profile_id: UUID) -> bool:
    """Let no device of a profile ask for credentials any more; False when none could."""
    gone = await session.execute(
        sa.delete(ProvisioningKey)
        .where(col(ProvisioningKey.profile_id) == profile_id)
        .returning(col(ProvisioningKey.profile_id))
    )
    return gone.first() is not None
