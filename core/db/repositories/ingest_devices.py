"""What the broker asks and records about devices: sign-in, commands, desired twin, presence.

On asyncpg as the role `ingest`, which passes row-level security by: every statement here names
the device, or one of its credentials.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from core.db.repositories.ingest import Connection


class DeviceRow(NamedTuple):
    """A device that may sign in with a credential, and what expressions see of it.

    Attributes:
        usable: The credential is neither revoked nor expired, the device is in service, and its
            tenant is active.
        expires_at: When the credential ends by itself.
        dialects: What of other platforms' languages its configuration says it speaks, as JSON.
        transient: It stands for a client that is no device.
    """

    credential_id: UUID
    device_id: UUID
    tenant_id: UUID
    name: str
    profile: str
    lifecycle: str
    usable: bool
    metadata: str
    location: str | None
    profile_id: UUID
    site: str | None
    tags: list[str]
    expires_at: datetime | None = None
    dialects: str | None = None
    transient: bool = False


_DEVICE: Final = """
    c.id, d.id, d.tenant_id, d.name, p.name, d.lifecycle,
           c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > now())
           AND d.lifecycle NOT IN ('decommissioned', 'expired') AND t.active,
           d.metadata::text, d.location::text, d.profile_id, d.site, d.tags, c.expires_at,
           nullif(jsonb_strip_nulls(jsonb_build_object(
               'gateway', coalesce(d.configuration->'gateway', p.configuration->'gateway'),
               'sparkplug', coalesce(d.configuration->'sparkplug', p.configuration->'sparkplug')
           )), '{}')::text
    FROM device_credentials c
    JOIN devices d ON d.id = c.device_id
    JOIN device_profiles p ON p.id = d.profile_id
    JOIN tenants t ON t.id = d.tenant_id
"""


async def devices_of_keys(
    connection: Connection, digests: Sequence[bytes]
) -> dict[bytes, DeviceRow]:
    """Return the devices that keys belong to, by the SHA-256 of the key."""
    rows = await connection.fetch(
        f"SELECT c.key_sha256, {_DEVICE} WHERE c.key_sha256 = ANY($1::bytea[])", digests
    )
    return {row[0]: DeviceRow(*tuple(row)[1:]) for row in rows}


async def devices_of_certificates(
    connection: Connection, digests: Sequence[bytes]
) -> dict[bytes, DeviceRow]:
    """Return the devices that client certificates belong to, by the SHA-256 of their DER.

    That a client holds the private key is what the TLS handshake has shown; the database knows
    nothing of it.
    """
    rows = await connection.fetch(
        f"SELECT c.certificate_sha256, {_DEVICE} WHERE c.certificate_sha256 = ANY($1::bytea[])",
        digests,
    )
    return {row[0]: DeviceRow(*tuple(row)[1:]) for row in rows}


async def devices_of_credentials(
    connection: Connection, credentials: Sequence[UUID]
) -> list[DeviceRow]:
    """Return the present state of devices by the credentials they signed in with."""
    rows = await connection.fetch(f"SELECT {_DEVICE} WHERE c.id = ANY($1::uuid[])", credentials)
    return [DeviceRow(*row) for row in rows]


class ProfileRow(NamedTuple):
    """What a device profile says about measurements; `rules` is JSON."""

    profile_id: UUID
    rules: str


async def profiles_with_rules(connection: Connection) -> list[ProfileRow]:
    """Return the profiles of all tenants that name metrics."""
    rows = await connection.fetch(
        """
        SELECT p.id, jsonb_strip_nulls(jsonb_build_object(
                   'metrics', p.configuration->'metrics', 'derived', p.configuration->'derived'
               ))::text
        FROM device_profiles p JOIN tenants t ON t.id = p.tenant_id
        WHERE t.active AND p.configuration ?| '{metrics,derived}'
        """
    )
    return [ProfileRow(*row) for row in rows]


class TenantLimitsRow(NamedTuple):
    """What a tenant's configuration says about limits; `limits` is JSON."""

    tenant_id: UUID
    limits: str


async def tenant_limits(connection: Connection) -> list[TenantLimitsRow]:
    """Return the limits of all tenants whose configuration names some."""
    rows = await connection.fetch(
        "SELECT id, (configuration->'limits')::text FROM tenants WHERE configuration ? 'limits'"
    )
    return [TenantLimitsRow(*row) for row in rows]


class CommandRow(NamedTuple):
    """An open command; `payload` is JSON."""

    command_id: UUID
    name: str
    payload: str


async def open_commands(
    connection: Connection, device_id: UUID, known: Sequence[UUID], limit: int
) -> list[CommandRow]:
    """Mark a device's overdue commands expired; return its oldest open ones but for `known`."""
    await connection.execute(
        """
        UPDATE device_commands SET status = 'expired'
        WHERE device_id = $1 AND status IN ('pending', 'sent') AND expires_at <= now()
        """,
        device_id,
    )
    rows = await connection.fetch(
        """
        SELECT id, name, payload::text FROM device_commands
        WHERE device_id = $1 AND status IN ('pending', 'sent') AND NOT id = ANY($2::uuid[])
        ORDER BY created_at, id LIMIT $3
        """,
        device_id,
        known,
        limit,
    )
    return [CommandRow(*row) for row in rows]


async def mark_sent(connection: Connection, commands: Sequence[UUID]) -> None:
    """Note that commands were handed to the device's connection."""
    await connection.execute(
        """
        UPDATE device_commands SET status = 'sent', sent_at = now()
        WHERE id = ANY($1::uuid[]) AND status IN ('pending', 'sent')
        """,
        commands,
    )


async def devices_with_downlink(connection: Connection, devices: Sequence[UUID]) -> set[UUID]:
    """Return which of these devices have open commands (overdue ones too) or a desired state."""
    rows = await connection.fetch(
        """
        SELECT device_id FROM device_commands
        WHERE device_id = ANY($1::uuid[]) AND status IN ('pending', 'sent')
        UNION SELECT device_id FROM device_attributes
        WHERE device_id = ANY($1::uuid[]) AND desired_version > 0
        """,
        devices,
    )
    return {row["device_id"] for row in rows}


async def devices_with_pending_commands(
    connection: Connection, devices: Sequence[UUID]
) -> list[UUID]:
    """Return which of these devices have commands that were never sent."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT device_id FROM device_commands
        WHERE device_id = ANY($1::uuid[]) AND status = 'pending'
          AND (expires_at IS NULL OR expires_at > now())
        """,
        devices,
    )
    return [row["device_id"] for row in rows]


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired state of a twin, as JSON."""

    state: str
    version: int


async def desired(connection: Connection, device_id: UUID) -> Desired | None:
    """Return the desired state of a device's twin; None when nothing was ever desired."""
    row = await connection.fetchrow(
        """
        SELECT desired::text, desired_version FROM device_attributes
        WHERE device_id = $1 AND desired_version > 0
        """,
        device_id,
    )
    return None if row is None else Desired(*row)


class PresenceRow(NamedTuple):
    """A device came or went; `connected_at` is null when it went."""

    device_id: UUID
    online: bool
    at: datetime
    connected_at: datetime | None


async def set_presence(
    connection: Connection, rows: Iterable[PresenceRow], broker_id: UUID | None
) -> set[UUID]:
    """Record devices that came to a broker process, or went from it.

    Who has gone to another process meanwhile does not go offline by leaving this one.

    Returns:
        The devices for which it is true.
    """
    done = await connection.fetch(
        """
        UPDATE devices d
        SET status = CASE WHEN n.online THEN 'online' ELSE 'offline' END, last_seen = n.at,
            connected_at = coalesce(n.connected_at, d.connected_at),
            broker_id = CASE WHEN n.online THEN $5::uuid END
        FROM unnest($1::uuid[], $2::bool[], $3::timestamptz[], $4::timestamptz[])
            AS n (id, online, at, connected_at)
        WHERE d.id = n.id AND (n.online OR d.broker_id IS NULL OR d.broker_id = $5)
        RETURNING d.id
        """,
        *zip(*rows, strict=True),
        broker_id,
    )
    return {row["id"] for row in done}


async def touch(
    connection: Connection,
    devices: Sequence[tuple[UUID, datetime]],
    broker_id: UUID | None,
) -> None:
    """Record when connected devices were heard of last; repairs a status that says otherwise."""
    await connection.execute(
        """
        UPDATE devices d SET last_seen = n.at, broker_id = coalesce(d.broker_id, $3),
            status = CASE d.status WHEN 'offline' THEN 'online' ELSE d.status END
        FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, at) WHERE d.id = n.id
        """,
        *zip(*devices, strict=True),
        broker_id,
    )


async def note_visits(connection: Connection, devices: Sequence[tuple[UUID, datetime]]) -> None:
    """Record when devices without a connection were heard of last."""
    await connection.execute(
        """
        UPDATE devices d SET last_seen = greatest(d.last_seen, n.at)
        FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, at) WHERE d.id = n.id
        """,
        *zip(*devices, strict=True),
    )
