"""What ingest from another's MQTT broker asks and records: leases, presence, what goes down.

On asyncpg as the role `ingest`, which passes row-level security by: every statement here names
the devices, or is about all of them because one process serves all tenants.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from core.db.repositories.ingest import Connection


async def try_lease(connection: Connection, name: str) -> bool:
    """Take a lease for as long as the connection lives, unless another session has it."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", key))


async def mark_silent(
    connection: Connection, devices: Sequence[UUID] | None, seconds: float
) -> list[tuple[UUID, UUID]]:
    """Mark devices offline that nobody has heard of for so long.

    Args:
        connection: PostgreSQL.
        devices: Those to look at; None for all.
        seconds: How long.

    Returns:
        Device and tenant of those that went offline by this.
    """
    rows = await connection.fetch(
        """
        UPDATE devices SET status = 'offline'
        WHERE status = 'online' AND ($1::uuid[] IS NULL OR id = ANY($1::uuid[]))
          AND (last_seen IS NULL OR last_seen < now() - make_interval(secs => $2))
        RETURNING id, tenant_id
        """,
        devices,
        seconds,
    )
    return [(row[0], row[1]) for row in rows]


class DownCommand(NamedTuple):
    """A command that was never sent; `payload` is JSON."""

    command_id: UUID
    device_id: UUID
    name: str
    payload: str


async def pending_commands(
    connection: Connection, postponed: Sequence[UUID], limit: int
) -> list[DownCommand]:
    """Mark overdue commands expired; return the oldest that were never sent, but not these."""
    await connection.execute(
        """
        UPDATE device_commands SET status = 'expired'
        WHERE status IN ('pending', 'sent') AND expires_at <= now()
        """
    )
    rows = await connection.fetch(
        """
        SELECT c.id, c.device_id, c.name, c.payload::text
        FROM device_commands c JOIN devices d ON d.id = c.device_id
        WHERE c.status = 'pending' AND NOT c.id = ANY($1::uuid[])
          AND d.lifecycle NOT IN ('decommissioned', 'expired')
        ORDER BY c.created_at, c.id LIMIT $2
        """,
        postponed,
        limit,
    )
    return [DownCommand(*row) for row in rows]


class UnpublishedTwin(NamedTuple):
    """A desired state that the broker does not keep yet, as JSON."""

    device_id: UUID
    state: str
    version: int


async def unpublished_twins(connection: Connection, limit: int) -> list[UnpublishedTwin]:
    """Return desired states that changed since they were published."""
    rows = await connection.fetch(
        """
        SELECT a.device_id, a.desired::text, a.desired_version
        FROM device_attributes a JOIN devices d ON d.id = a.device_id
        WHERE a.desired_version > a.external_version
          AND d.lifecycle NOT IN ('decommissioned', 'expired')
        LIMIT $1
        """,
        limit,
    )
    return [UnpublishedTwin(*row) for row in rows]


async def note_published(connection: Connection, twins: Iterable[UnpublishedTwin]) -> None:
    """Record that the broker keeps these desired states."""
    await connection.execute(
        """
        UPDATE device_attributes a SET external_version = n.version
        FROM unnest($1::uuid[], $2::int[]) AS n (id, version)
        WHERE a.device_id = n.id AND a.external_version < n.version
        """,
        *zip(*((twin.device_id, twin.version) for twin in twins), strict=True),
    )
