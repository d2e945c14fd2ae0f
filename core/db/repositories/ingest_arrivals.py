"""What the broker asks about devices whose messages came by another way than a connection.

On asyncpg as the role `ingest`, which passes row-level security by: every statement here names
the tenant, or devices that were found by it.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from core.db.repositories.ingest import Connection, TriggerStateRow
from core.db.repositories.ingest_devices import DeviceRow

_DEVICE: Final = """
    SELECT d.id, d.id, d.tenant_id, d.name, p.name, d.lifecycle,
           d.lifecycle NOT IN ('decommissioned', 'expired') AND t.active,
           d.metadata::text, d.location::text, d.profile_id, d.site, d.tags
    FROM devices d
    JOIN device_profiles p ON p.id = d.profile_id
    JOIN tenants t ON t.id = d.tenant_id
"""
"""The columns of a `DeviceRow`; a device stands in for its credential."""


async def devices_of_tenant(
    connection: Connection, tenant_id: UUID, devices: Sequence[UUID]
) -> dict[UUID, DeviceRow]:
    """Return those of these devices that are the tenant's."""
    rows = await connection.fetch(
        f"{_DEVICE} WHERE d.tenant_id = $1 AND d.id = ANY($2::uuid[])", tenant_id, devices
    )
    return {row[1]: DeviceRow(*row) for row in rows}


async def devices_by_id(connection: Connection, devices: Sequence[UUID]) -> list[DeviceRow]:
    """Return those of these devices that there are, of any tenant; they are known to be here.

    Either they are live, or another broker has checked whose messages they are.
    """
    rows = await connection.fetch(f"{_DEVICE} WHERE d.id = ANY($1::uuid[])", devices)
    return [DeviceRow(*row) for row in rows]


async def trigger_states_of(
    connection: Connection, devices: Sequence[UUID]
) -> list[TriggerStateRow]:
    """Return what triggers remember about devices."""
    rows = await connection.fetch(
        """
        SELECT workflow_id, trigger_index, device_id, tenant_id, active, fired, since, last_fired,
               definition_sha256
        FROM trigger_states WHERE device_id = ANY($1::uuid[])
        """,
        devices,
    )
    return [TriggerStateRow(*row) for row in rows]
