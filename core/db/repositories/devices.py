"""Device profiles, devices, their credentials and events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import Device, DeviceCredential, DeviceEvent, DeviceProfile

DeviceOfType = tuple[Device, str]
"""A device and the name of its profile."""


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices are wanted; None means any.

    Attributes:
        status: online, offline, warning or error.
        profile: Name of the profile.
        lifecycle: One lifecycle; without it everything but decommissioned devices.
        search: Part of the name, without regard to case.
    """

    status: str | None = None
    profile: str | None = None
    lifecycle: str | None = None
    search: str | None = None


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


async def profiles(session: AsyncSession, *, offset: int, limit: int) -> list[DeviceProfile]:
    """Return profiles by name."""
    rows = await session.scalars(
        select(DeviceProfile).order_by(col(DeviceProfile.name)).offset(offset).limit(limit)
    )
    return list(rows)


async def count_profiles(session: AsyncSession) -> int:
    """Return how many profiles there are."""
    return await session.scalar(select(sa.func.count()).select_from(DeviceProfile)) or 0


async def get_profile(session: AsyncSession, profile_id: UUID) -> DeviceProfile | None:
    """Return one profile."""
    return await session.scalar(
        select(DeviceProfile).where(col(DeviceProfile.id) == profile_id).with_for_update()
    )


async def profiles_by_name(session: AsyncSession, names: Iterable[str]) -> dict[str, DeviceProfile]:
    """Return the profiles that exist of `names`."""
    rows = await session.scalars(
        select(DeviceProfile).where(col(DeviceProfile.name).in_(set(names)))
    )
    return {profile.name: profile for profile in rows}


async def page(
    session: AsyncSession, wanted: DeviceFilter, *, offset: int, limit: int
) -> tuple[list[DeviceOfType], int]:
    """Return devices by name, and how many match."""
    filters: list[sa.ColumnElement[bool]] = []
    if wanted.status is not None:
        filters.append(col(Device.status) == wanted.status)
    if wanted.profile is not None:
        filters.append(col(DeviceProfile.name) == wanted.profile)
    if wanted.lifecycle is None:
        filters.append(col(Device.lifecycle) != "decommissioned")
    else:
        filters.append(col(Device.lifecycle) == wanted.lifecycle)
    if wanted.search:
        filters.append(col(Device.name).ilike(_like(wanted.search), escape="\\"))
    joined = col(DeviceProfile.id) == col(Device.profile_id)
    total = await session.scalar(
        select(sa.func.count()).select_from(Device).join(DeviceProfile, joined).where(*filters)
    )
    rows = await session.execute(
        select(Device, DeviceProfile.name)
        .join(DeviceProfile, joined)
        .where(*filters)
        .order_by(col(Device.name), col(Device.id))
        .offset(offset)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in rows], total or 0


async def get(session: AsyncSession, device_id: UUID, *, lock: bool = False) -> DeviceOfType | None:
    """Return one device of this tenant; with `lock`, nobody else changes it meanwhile."""
    statement = (
        select(Device, DeviceProfile.name)
        .join(DeviceProfile, col(DeviceProfile.id) == col(Device.profile_id))
        .where(col(Device.id) == device_id)
    )
    if lock:
        statement = statement.with_for_update(of=Device)
    row = (await session.execute(statement)).first()
    return None if row is None else (row[0], row[1])


async def existing(session: AsyncSession, device_ids: Iterable[UUID]) -> set[UUID]:
    """Return which of these devices are this tenant's."""
    rows = await session.scalars(select(col(Device.id)).where(col(Device.id).in_(list(device_ids))))
    return set(rows)


async def names_in_use(session: AsyncSession, names: Sequence[str]) -> set[str]:
    """Return which of `names` this tenant's devices have already."""
    rows = await session.scalars(select(col(Device.name)).where(col(Device.name).in_(names)))
    return set(rows)


async def insert_many(
    session: AsyncSession,
    devices: Sequence[dict[str, Any]],
    credentials: Sequence[dict[str, Any]],
) -> None:
    """Insert many devices and their credentials; the keys are column names."""
    # Through Core: ten thousand tracked objects would cost seconds.
    await session.execute(insert(Device.__table__), devices)  # pyright: ignore[reportAttributeAccessIssue]  # SQLModel does not type __table__
    await session.execute(insert(DeviceCredential.__table__), credentials)  # pyright: ignore[reportAttributeAccessIssue]  # as above


async def revoke_credentials(session: AsyncSession, device_id: UUID) -> int:
    """Revoke every key of a device; returns how many were valid until now."""
    revoked = await session.execute(
        sa.update(DeviceCredential)
        .where(
            col(DeviceCredential.device_id) == device_id,
            col(DeviceCredential.revoked_at).is_(None),
        )
        .values(revoked_at=sa.func.now())
        .returning(col(DeviceCredential.id))
    )
    return len(revoked.all())


async def events(
    session: AsyncSession, device_id: UUID, *, name: str | None, offset: int, limit: int
) -> tuple[list[DeviceEvent], int]:
    """Return a device's events, newest first, and how many match."""
    filters = [col(DeviceEvent.device_id) == device_id]
    if name is not None:
        filters.append(col(DeviceEvent.name) == name)
    total = await session.scalar(select(sa.func.count()).select_from(DeviceEvent).where(*filters))
    rows = await session.scalars(
        select(DeviceEvent)
        .where(*filters)
        .order_by(col(DeviceEvent.time).desc(), col(DeviceEvent.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0
