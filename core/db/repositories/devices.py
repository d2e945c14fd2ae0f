"""Device profiles, devices, their credentials and events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import Device, DeviceCredential, DeviceEvent, DeviceProfile, TriggerOutbox
from core.temporal import names

DeviceOfType = tuple[Device, str]
"""A device and the name of its profile."""


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices are wanted; None means any.

    Attributes:
        status: online, offline, warning or error.
        profile: Name of the profile.
        lifecycle: One lifecycle; without it everything but decommissioned devices.
        site: The site.
        tags: Tags that it has, all of them.
        search: Part of the name, without regard to case.
    """

    status: str | None = None
    profile: str | None = None
    lifecycle: str | None = None
    site: str | None = None
    tags: tuple[str, ...] = ()
    search: str | None = None


def like(text: str) -> str:
    """Return the pattern that finds `text` anywhere; its escape is a backslash."""
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


async def profile_names(session: AsyncSession) -> set[str]:
    """Return the names of all profiles."""
    return set(await session.scalars(select(col(DeviceProfile.name))))


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
    if wanted.site is not None:
        filters.append(col(Device.site) == wanted.site)
    if wanted.tags:
        filters.append(sa.type_coerce(col(Device.tags), ARRAY(sa.Text)).contains(list(wanted.tags)))
    if wanted.search:
        filters.append(col(Device.name).ilike(like(wanted.search), escape="\\"))
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
    """Return which of `names` this tenant's devices in service have already."""
    rows = await session.scalars(
        select(col(Device.name)).where(
            col(Device.name).in_(names), col(Device.lifecycle) != "decommissioned"
        )
    )
    return set(rows)


async def insert_many(
    session: AsyncSession, rows: Sequence[Device], keys: Sequence[tuple[UUID, bytes]]
) -> None:
    """Insert many devices of one tenant, and one credential (device, digest) each."""
    # Through Core: ten thousand tracked objects would cost seconds.
    columns = ("id", "tenant_id", "profile_id", "name", "location", "site", "tags", "configuration")
    await session.execute(
        sa.insert(Device),
        [{c: getattr(row, c) for c in columns} | {"labels": row.labels} for row in rows],
    )
    await session.execute(
        sa.insert(DeviceCredential),
        [
            {"tenant_id": row.tenant_id, "device_id": device_id, "key_sha256": digest}
            for row, (device_id, digest) in zip(rows, keys, strict=True)
        ],
    )


async def forget_provisioning(session: AsyncSession, tenant_id: UUID, device_id: UUID) -> bool:
    """Let a device be provisioned again: forget that Temporal was told of the last time.

    Returns:
        False when Temporal has not been told yet, so that it is still to come.
    """
    workflow_id = names.provisioning_id(tenant_id, device_id)
    keys = (workflow_id, f"{workflow_id}#{names.Signal.DEVICE_CONNECTED}")
    await session.execute(
        sa.delete(TriggerOutbox).where(
            col(TriggerOutbox.key).in_(keys), col(TriggerOutbox.done_at).is_not(None)
        )
    )
    left = await session.scalar(
        select(col(TriggerOutbox.id)).where(col(TriggerOutbox.key).in_(keys)).limit(1)
    )
    return left is None


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
