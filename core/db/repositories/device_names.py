"""Devices by what people and other systems call them."""

from collections.abc import Collection
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.repositories import devices

# A device in service stands before those whose name it took over.
_BY_NAME = sa.text(
    """
    SELECT DISTINCT ON (name) name, id FROM devices WHERE name = ANY(:names)
    ORDER BY name, lifecycle = 'decommissioned', created_at DESC, id
    """
).bindparams(sa.bindparam("names", type_=ARRAY(sa.Text)))

_BY_EXTERNAL_ID = sa.text(
    """
    SELECT metadata->>'external_id', min(id::text)::uuid FROM devices
    WHERE metadata->>'external_id' = ANY(:names) AND lifecycle <> 'decommissioned'
    GROUP BY 1 HAVING count(*) = 1
    """
).bindparams(sa.bindparam("names", type_=ARRAY(sa.Text)))


async def by(
    session: AsyncSession, kind: Literal["id", "name", "external_id"], names: Collection[str]
) -> dict[str, UUID]:
    """Return the tenant's devices by one of the ways to name them; ids are UUIDs as text."""
    match kind:
        case "id":
            there = await devices.existing(session, [UUID(name) for name in names])
            return {str(device_id): device_id for device_id in there}
        case "name":
            return await by_name(session, names)
        case "external_id":
            return await by_external_id(session, names)


async def by_name(session: AsyncSession, names: Collection[str]) -> dict[str, UUID]:
    """Return the tenant's devices of these names; one out of service if none in service has it."""
    if not names:
        return {}
    rows = await session.execute(_BY_NAME, {"names": _storable(names)})
    return {name: device_id for name, device_id in rows}  # noqa: C416  (rows are no tuples)


async def by_external_id(session: AsyncSession, names: Collection[str]) -> dict[str, UUID]:
    """Return the tenant's devices in service by `external_id` of their metadata.

    An id that several devices have names none of them.
    """
    if not names:
        return {}
    rows = await session.execute(_BY_EXTERNAL_ID, {"names": _storable(names)})
    return {name: device_id for name, device_id in rows}  # noqa: C416  (rows are no tuples)


def _storable(names: Collection[str]) -> list[str]:
    return [name for name in names if "\0" not in name]
