"""The life of a device: registered, pending, active or expired, decommissioned.

Every change locks the device's row first, so that a decommissioning and a provisioning that is
under way cannot pass each other: what is decommissioned never gets a valid credential again.
"""

from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.columns import Document
from core.db.repositories import audit
from core.db.tables import (
    Device,
    DeviceAttributes,
    DeviceCommand,
    DeviceCredential,
    DeviceEvent,
    DeviceProfile,
)
from core.errors import ConflictError, NotFoundError

REMINDER = "provisioning.reminder"
"""Name of the device event that a reminder leaves."""


async def register(session: AsyncSession, device: Device) -> Device:
    """Ensure that a device exists; one that does is left as it is.

    Raises:
        ConflictError: Another device has the name, or the device is decommissioned.
        NotFoundError: The tenant has no such profile.
    """
    known = await session.scalar(
        select(DeviceProfile.id).where(
            col(DeviceProfile.tenant_id) == device.tenant_id,
            col(DeviceProfile.id) == device.profile_id,
        )
    )
    if known is None:
        raise NotFoundError(f"there is no device profile {device.profile_id}")
    try:
        async with session.begin_nested():
            await session.execute(
                insert(Device)
                .values(
                    id=device.id,
                    tenant_id=device.tenant_id,
                    profile_id=device.profile_id,
                    name=device.name,
                    # A plain None would be stored as JSON's null.
                    location=sa.null() if device.location is None else device.location,
                    metadata=device.labels,
                )
                .on_conflict_do_nothing(index_elements=["id"])
            )
    except IntegrityError as error:
        raise ConflictError(f"there is a device named {device.name!r} already") from error
    return await _usable(session, device.tenant_id, device.id)


async def store_credential(
    session: AsyncSession, tenant_id: UUID, device_id: UUID, key_sha256: bytes
) -> None:
    """Ensure that a device may sign in with a key.

    Raises:
        ConflictError: The device is decommissioned, the key was revoked, or it is another
            device's.
        NotFoundError: The tenant has no such device.
    """
    await _usable(session, tenant_id, device_id)
    await session.execute(
        insert(DeviceCredential)
        .values(tenant_id=tenant_id, device_id=device_id, key_sha256=key_sha256)
        .on_conflict_do_nothing(index_elements=["key_sha256"])
    )
    valid = await session.scalar(
        select(DeviceCredential.id).where(
            col(DeviceCredential.tenant_id) == tenant_id,
            col(DeviceCredential.device_id) == device_id,
            col(DeviceCredential.key_sha256) == key_sha256,
            col(DeviceCredential.revoked_at).is_(None),
        )
    )
    if valid is None:
        raise ConflictError("this key was revoked, or belongs to another device")


async def set_first_desired(
    session: AsyncSession, tenant_id: UUID, device_id: UUID, desired: Document
) -> bool:
    """Set the twin's desired state unless it was ever set.

    Args:
        session: The unit of work.
        tenant_id: The tenant.
        device_id: The device.
        desired: Laid over what the device's profile wants of every device.

    Returns:
        Whether it was set.

    Raises:
        ConflictError: The device is decommissioned.
        NotFoundError: The tenant has no such device.
    """
    device = await _usable(session, tenant_id, device_id)
    configuration = await session.scalar(
        select(DeviceProfile.configuration).where(
            col(DeviceProfile.tenant_id) == tenant_id, col(DeviceProfile.id) == device.profile_id
        )
    )
    first = {**(configuration or {}).get("desired", {}), **desired}
    if not first:
        return False
    statement = insert(DeviceAttributes).values(
        device_id=device_id,
        tenant_id=tenant_id,
        desired=first,
        desired_version=1,
        desired_at=sa.func.now(),
    )
    changed = await session.execute(
        statement.on_conflict_do_update(
            index_elements=["device_id"],
            set_={
                "desired": statement.excluded.desired,
                "desired_version": 1,
                "desired_at": sa.func.now(),
            },
            where=col(DeviceAttributes.desired_version) == 0,
        ).returning(col(DeviceAttributes.device_id))
    )
    return changed.first() is not None


async def await_connection(
    session: AsyncSession, tenant_id: UUID, device_id: UUID
) -> tuple[datetime | None, bool]:
    """Let a device be pending that has not connected.

    Returns:
        When it first connected, if it has: then nothing needs to be waited for. And whether it
        became pending by this.

    Raises:
        ConflictError: The device is decommissioned.
        NotFoundError: The tenant has no such device.
    """
    device = await _usable(session, tenant_id, device_id)
    waits = device.connected_at is None and device.lifecycle not in ("active", "pending")
    if waits:
        _move(device, "pending")
    return device.connected_at, waits


async def activate(
    session: AsyncSession, tenant_id: UUID, device_id: UUID, connected_at: datetime
) -> None:
    """Take a device that has connected into service.

    Raises:
        ConflictError: The device is decommissioned.
        NotFoundError: The tenant has no such device.
    """
    device = await _usable(session, tenant_id, device_id)
    device.connected_at = device.connected_at or connected_at
    device.activated_at = device.activated_at or connected_at
    _move(device, "active")


async def remind(
    session: AsyncSession, tenant_id: UUID, device_id: UUID, at: datetime, waiting_since: datetime
) -> datetime | None:
    """Leave a reminder of a device that waits for its first connection; the same one once.

    Returns:
        When it first connected, if it has: then there is no reminder.

    Raises:
        ConflictError: The device is decommissioned.
        NotFoundError: The tenant has no such device.
    """
    device = await _usable(session, tenant_id, device_id)
    if device.connected_at is not None:
        return device.connected_at
    details = {"waiting_since": waiting_since.isoformat()}
    written = await session.execute(
        insert(DeviceEvent)
        .values(tenant_id=tenant_id, device_id=device_id, time=at, name=REMINDER, data=details)
        .on_conflict_do_nothing(index_elements=["device_id", "time", "name"])
        .returning(col(DeviceEvent.id))
    )
    if written.first() is not None:
        _audit(session, device, REMINDER, details)
    return None


async def withdraw(
    session: AsyncSession, tenant_id: UUID, device_id: UUID, key_sha256: bytes, lifecycle: str
) -> datetime | None:
    """Take back the credential of a device that never connected, and end its wait.

    One that expires loses every key it was given meanwhile. One that has connected keeps
    everything, and one that is gone or decommissioned is left alone.

    Returns:
        When it first connected, if it has.
    """
    device = await _locked(session, tenant_id, device_id)
    if device is None or device.lifecycle == "decommissioned":
        return None
    if device.connected_at is not None:
        return device.connected_at
    await _revoke(session, tenant_id, device_id, None if lifecycle == "expired" else key_sha256)
    if device.lifecycle in ("registered", "pending") and device.lifecycle != lifecycle:
        _move(device, lifecycle)
        _audit(session, device, f"device.{lifecycle}", {})
    return None


async def decommission(session: AsyncSession, tenant_id: UUID, device_id: UUID) -> bool:
    """Revoke every credential of a device and take it out of service for good.

    Commands that it has not answered expire.

    Returns:
        False when it was done before, or the device is gone.
    """
    device = await _locked(session, tenant_id, device_id)
    if device is None or device.lifecycle == "decommissioned":
        return False
    await _revoke(session, tenant_id, device_id, None)
    await session.execute(
        sa.update(DeviceCommand)
        .where(
            col(DeviceCommand.tenant_id) == tenant_id,
            col(DeviceCommand.device_id) == device_id,
            col(DeviceCommand.status).in_(("pending", "sent")),
        )
        .values(status="expired")
    )
    device.status = "offline"
    _move(device, "decommissioned")
    _audit(session, device, "device.decommissioned", {})
    return True


async def _revoke(
    session: AsyncSession, tenant_id: UUID, device_id: UUID, key_sha256: bytes | None
) -> None:
    statement = (
        sa.update(DeviceCredential)
        .where(
            col(DeviceCredential.tenant_id) == tenant_id,
            col(DeviceCredential.device_id) == device_id,
            col(DeviceCredential.revoked_at).is_(None),
        )
        .values(revoked_at=sa.func.now())
    )
    if key_sha256 is not None:
        statement = statement.where(col(DeviceCredential.key_sha256) == key_sha256)
    await session.execute(statement)


async def _locked(session: AsyncSession, tenant_id: UUID, device_id: UUID) -> Device | None:
    return await session.scalar(
        select(Device)
        .where(col(Device.tenant_id) == tenant_id, col(Device.id) == device_id)
        .with_for_update()
    )


async def _usable(session: AsyncSession, tenant_id: UUID, device_id: UUID) -> Device:
    device = await _locked(session, tenant_id, device_id)
    if device is None:
        raise NotFoundError(f"there is no device {device_id}")
    if device.lifecycle == "decommissioned":
        raise ConflictError(f"the device {device_id} is decommissioned")
    return device


def _move(device: Device, lifecycle: str) -> None:
    device.lifecycle = lifecycle
    device.updated_at = datetime.now(UTC)


def _audit(session: AsyncSession, device: Device, action: str, details: Document) -> None:
    audit.record(
        session,
        tenant_id=device.tenant_id,
        user_id=None,  # the platform itself
        action=action,
        resource_type="device",
        resource_id=str(device.id),
        details={"name": device.name, **details},
        address="",
    )
