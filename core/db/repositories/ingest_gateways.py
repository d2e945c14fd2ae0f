"""Devices that come into being because of what a device said: children of gateways, provisioning.

On asyncpg as the role `ingest`, which passes row-level security by: every statement here names the
tenant, or a gateway whose tenant it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID, uuid4

from core.db.repositories.ingest import Connection, OutboxRow, enqueue


class Refusal(StrEnum):
    """Why a gateway may not speak for a device that it named."""

    NO_PROFILE = "unknown_profile"
    TAKEN = "not_its_device"


async def children(
    connection: Connection, gateway_id: UUID, names: Sequence[str]
) -> dict[str, UUID]:
    """Return those devices that a gateway may speak for, by the names it uses."""
    rows = await connection.fetch(
        "SELECT name, device_id FROM gateway_children "
        "WHERE gateway_id = $1 AND name = ANY($2::text[])",
        gateway_id,
        names,
    )
    return {row["name"]: row["device_id"] for row in rows}


async def adopt(
    connection: Connection,
    gateway_id: UUID,
    tenant_id: UUID,
    name: str,
    title: str,
    profiles: Sequence[str],
) -> UUID | Refusal:
    """Create a device that a gateway named; runs in a transaction.

    Args:
        connection: Of the broker.
        gateway_id: The gateway.
        tenant_id: The gateway's.
        name: By which the gateway speaks of it.
        title: The device's name in its tenant.
        profiles: Names of profiles; the first that the tenant has is taken.
    """
    device_id = await connection.fetchval(
        """
        INSERT INTO devices (id, tenant_id, profile_id, name, lifecycle, metadata, activated_at)
        SELECT $1, p.tenant_id, p.id, $3, 'active', jsonb_build_object('gateway', $4::text), now()
        FROM device_profiles p JOIN unnest($5::text[]) WITH ORDINALITY AS n (name, position)
             ON p.name = n.name
        WHERE p.tenant_id = $2
        ORDER BY n.position LIMIT 1
        ON CONFLICT DO NOTHING RETURNING id
        """,
        uuid4(),
        tenant_id,
        title,
        str(gateway_id),
        profiles,
    )
    if device_id is None:
        known = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM device_profiles "
            "WHERE tenant_id = $1 AND name = ANY($2::text[]))",
            tenant_id,
            profiles,
        )
        return Refusal.TAKEN if known else Refusal.NO_PROFILE
    await connection.execute(
        "INSERT INTO gateway_children (gateway_id, device_id, tenant_id, name) "
        "VALUES ($1, $2, $3, $4)",
        gateway_id,
        device_id,
        tenant_id,
        name,
    )
    return device_id


class Twin(NamedTuple):
    """Both sides of a device's twin, as JSON."""

    reported: str
    desired: str


async def twin(connection: Connection, device_id: UUID) -> Twin:
    """Return the twin of a device; empty when it has none."""
    row = await connection.fetchrow(
        "SELECT reported::text, desired::text FROM device_attributes WHERE device_id = $1",
        device_id,
    )
    return Twin("{}", "{}") if row is None else Twin(*row)


class ClaimRow(NamedTuple):
    """A device may be claimed."""

    device_id: UUID
    tenant_id: UUID
    secret_sha256: bytes
    expires_at: datetime


async def store_claims(connection: Connection, rows: Mapping[UUID, ClaimRow]) -> None:
    """Let devices be claimed; one that was claimed stays so."""
    await connection.execute(
        """
        INSERT INTO device_claims AS c (device_id, tenant_id, secret_sha256, expires_at)
        SELECT n.* FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::timestamptz[])
            AS n (device_id, tenant_id, secret_sha256, expires_at)
        WHERE EXISTS (SELECT FROM devices d WHERE d.id = n.device_id)
        ON CONFLICT (device_id) DO UPDATE
        SET secret_sha256 = excluded.secret_sha256, expires_at = excluded.expires_at
        WHERE c.claimed_at IS NULL
        """,
        *zip(*(rows[device_id] for device_id in sorted(rows)), strict=True),
    )


class Provisioner(NamedTuple):
    """A profile that provisions devices; `desired` is JSON."""

    tenant_id: UUID
    profile_id: UUID
    secret_sha256: bytes
    desired: str


async def provisioner(connection: Connection, key: str) -> Provisioner | None:
    """Return the profile of a provisioning key."""
    row = await connection.fetchrow(
        """
        SELECT k.tenant_id, k.profile_id, k.secret_sha256,
               coalesce(p.configuration->'desired', '{}')::text
        FROM provisioning_keys k
        JOIN device_profiles p ON p.id = k.profile_id
        JOIN tenants t ON t.id = k.tenant_id
        WHERE k.key = $1 AND t.active
        """,
        key,
    )
    return None if row is None else Provisioner(*row)


class NewDevice(NamedTuple):
    """A device that asked for credentials; `start` begins its provisioning."""

    device_id: UUID
    name: str
    key_sha256: bytes
    start: OutboxRow


async def provision(connection: Connection, profile: Provisioner, device: NewDevice) -> bool:
    """Create a device with its credential; runs in a transaction.

    Returns:
        False when the name, or the key, is in use.
    """
    created = await connection.fetchval(
        """
        INSERT INTO devices (id, tenant_id, profile_id, name)
        SELECT $1, $2, $3, $4
        WHERE NOT EXISTS (SELECT FROM device_credentials WHERE key_sha256 = $5)
        ON CONFLICT DO NOTHING RETURNING id
        """,
        device.device_id,
        profile.tenant_id,
        profile.profile_id,
        device.name,
        device.key_sha256,
    )
    if created is None:
        return False
    await connection.execute(
        "INSERT INTO device_credentials (tenant_id, device_id, key_sha256) VALUES ($1, $2, $3)",
        profile.tenant_id,
        device.device_id,
        device.key_sha256,
    )
    await enqueue(connection, [device.start])
    return True
