"""Lasting MQTT sessions, the messages that wait for them, and retained messages.

On asyncpg as the role `ingest`, which passes row-level security by: every statement here names a
session, or a tenant. Rows whose session, device or tenant has been deleted meanwhile are left out,
so that they cannot hold up the rows beside them in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from core.db.repositories.ingest import Connection


class SessionRow(NamedTuple):
    """A session; `filters` is a JSON object: filter → [granted QoS, do others publish there]."""

    id: UUID
    tenant_id: UUID
    device_id: UUID
    client_id: str
    filters: str
    away_since: datetime | None


class MessageRow(NamedTuple):
    """A message of QoS 1 or 2 that waits for a session's acknowledgement."""

    session_id: UUID
    position: int
    tenant_id: UUID
    packet_id: int
    qos: int
    topic: str
    payload: bytes
    retain: bool
    released: bool


class RetainedRow(NamedTuple):
    """The retained message of a topic."""

    tenant_id: UUID
    topic: str
    qos: int
    payload: bytes


@dataclass(slots=True)
class SessionChanges:
    """What is to become of sessions, in the order of receipt.

    Attributes:
        opened: New sessions.
        discarded: Sessions that ended, with all they hold.
        filters: New subscriptions of a session, as JSON.
        away: Since when a session has no connection; None: it has one.
        queued: Messages for sessions.
        released, done: Messages whose PUBREC came, and those that were acknowledged to the end; by
            session and position.
        received, completed: QoS 2 messages that came, and those that were released by their
            sender; by session and packet id.
        retained: By tenant and topic; None clears it.
    """

    opened: list[SessionRow] = field(default_factory=list)
    discarded: list[UUID] = field(default_factory=list)
    filters: dict[UUID, str] = field(default_factory=dict)
    away: dict[UUID, datetime | None] = field(default_factory=dict)
    queued: list[MessageRow] = field(default_factory=list)
    released: list[tuple[UUID, int]] = field(default_factory=list)
    done: list[tuple[UUID, int]] = field(default_factory=list)
    received: list[tuple[UUID, int]] = field(default_factory=list)
    completed: list[tuple[UUID, int]] = field(default_factory=list)
    retained: dict[tuple[UUID, str], RetainedRow | None] = field(default_factory=dict)


async def write_sessions(connection: Connection, changes: Sequence[SessionChanges]) -> None:
    """Write the changes of one batch; of what changed twice the newest counts."""
    gone = {session for change in changes for session in change.discarded}
    opened = [row for change in changes for row in change.opened if row.id not in gone]
    filters: dict[UUID, str] = {}
    away: dict[UUID, datetime | None] = {}
    retained: dict[tuple[UUID, str], RetainedRow | None] = {}
    for change in changes:
        filters.update(change.filters)
        away.update(change.away)
        retained.update(change.retained)
    if gone:
        await connection.execute("DELETE FROM mqtt_sessions WHERE id = ANY($1::uuid[])", list(gone))
    if opened:
        await _open(connection, opened)
    if filters:
        await connection.execute(
            """
            UPDATE mqtt_sessions s SET filters = n.filters::jsonb
            FROM unnest($1::uuid[], $2::text[]) AS n (id, filters) WHERE s.id = n.id
            """,
            list(filters),
            list(filters.values()),
        )
    if away:
        await connection.execute(
            """
            UPDATE mqtt_sessions s SET away_since = n.since
            FROM unnest($1::uuid[], $2::timestamptz[]) AS n (id, since) WHERE s.id = n.id
            """,
            list(away),
            list(away.values()),
        )
    await _write_messages(connection, changes)
    if retained:
        await _retain(connection, retained)


async def _open(connection: Connection, rows: Sequence[SessionRow]) -> None:
    # Another broker process may have left one of the same name.
    names = [row.device_id for row in rows], [row.client_id for row in rows]
    ids = [row.id for row in rows]
    await connection.execute(
        """
        DELETE FROM mqtt_sessions s USING unnest($1::uuid[], $2::text[]) AS n (device, client)
        WHERE s.device_id = n.device AND s.client_id = n.client AND NOT s.id = ANY($3::uuid[])
        """,
        *names,
        ids,
    )
    await connection.execute(
        """
        INSERT INTO mqtt_sessions (id, tenant_id, device_id, client_id, filters)
        SELECT n.id, n.tenant, n.device, n.client, '{}'
        FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[])
            AS n (id, tenant, device, client)
        WHERE EXISTS (SELECT FROM devices d WHERE d.id = n.device)
        ON CONFLICT DO NOTHING
        """,
        ids,
        [row.tenant_id for row in rows],
        *names,
    )


async def _write_messages(connection: Connection, changes: Sequence[SessionChanges]) -> None:
    queued = [row for change in changes for row in change.queued]
    received = [pair for change in changes for pair in change.received]
    if queued:
        await connection.execute(
            """
            INSERT INTO mqtt_messages (session_id, position, tenant_id, packet_id, qos, topic,
                                       payload, retain, released)
            SELECT n.* FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::int[], $5::smallint[],
                                   $6::text[], $7::bytea[], $8::bool[], $9::bool[])
                AS n (session_id, position, tenant_id, packet_id, qos, topic, payload, retain,
                      released)
            WHERE EXISTS (SELECT FROM mqtt_sessions s WHERE s.id = n.session_id)
            ON CONFLICT DO NOTHING
            """,
            *zip(*queued, strict=True),
        )
    if received:
        await connection.execute(
            """
            INSERT INTO mqtt_received (session_id, packet_id, tenant_id)
            SELECT s.id, n.packet_id, s.tenant_id
            FROM unnest($1::uuid[], $2::int[]) AS n (session_id, packet_id)
            JOIN mqtt_sessions s ON s.id = n.session_id
            ON CONFLICT DO NOTHING
            """,
            *zip(*received, strict=True),
        )
    statements = (
        (
            """
            UPDATE mqtt_messages m SET released = true
            FROM unnest($1::uuid[], $2::bigint[]) AS n (session_id, position)
            WHERE m.session_id = n.session_id AND m.position = n.position
            """,
            [pair for change in changes for pair in change.released],
        ),
        (
            """
            DELETE FROM mqtt_messages m
            USING unnest($1::uuid[], $2::bigint[]) AS n (session_id, position)
            WHERE m.session_id = n.session_id AND m.position = n.position
            """,
            [pair for change in changes for pair in change.done],
        ),
        (
            """
            DELETE FROM mqtt_received r
            USING unnest($1::uuid[], $2::int[]) AS n (session_id, packet_id)
            WHERE r.session_id = n.session_id AND r.packet_id = n.packet_id
            """,
            [pair for change in changes for pair in change.completed],
        ),
    )
    for statement, pairs in statements:
        if pairs:
            await connection.execute(statement, *zip(*pairs, strict=True))


async def _retain(
    connection: Connection, retained: dict[tuple[UUID, str], RetainedRow | None]
) -> None:
    cleared = [key for key, row in retained.items() if row is None]
    kept = [row for row in retained.values() if row is not None]
    if cleared:
        await connection.execute(
            """
            DELETE FROM mqtt_retained r USING unnest($1::uuid[], $2::text[]) AS n (tenant, topic)
            WHERE r.tenant_id = n.tenant AND r.topic = n.topic
            """,
            *zip(*cleared, strict=True),
        )
    if kept:
        await connection.execute(
            """
            INSERT INTO mqtt_retained (tenant_id, topic, qos, payload)
            SELECT n.* FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bytea[])
                AS n (tenant_id, topic, qos, payload)
            WHERE EXISTS (SELECT FROM tenants t WHERE t.id = n.tenant_id)
            ON CONFLICT (tenant_id, topic)
            DO UPDATE SET qos = excluded.qos, payload = excluded.payload
            """,
            *zip(*kept, strict=True),
        )


async def load_sessions(connection: Connection) -> list[SessionRow]:
    """Return the sessions of all tenants."""
    rows = await connection.fetch(
        "SELECT id, tenant_id, device_id, client_id, filters::text, away_since FROM mqtt_sessions"
    )
    return [SessionRow(*row) for row in rows]


class Kept(NamedTuple):
    """All that is kept of some sessions, each list as the `load_` functions return it."""

    sessions: list[SessionRow]
    messages: list[MessageRow]
    received: list[tuple[UUID, int]]


async def sessions_named(connection: Connection, names: Sequence[tuple[UUID, str]]) -> Kept:
    """Return what is kept of the sessions of these devices and client ids."""
    rows = await connection.fetch(
        """
        SELECT s.id, s.tenant_id, s.device_id, s.client_id, s.filters::text, s.away_since
        FROM mqtt_sessions s JOIN unnest($1::uuid[], $2::text[]) AS n (device, client)
          ON s.device_id = n.device AND s.client_id = n.client
        """,
        *zip(*names, strict=True),
    )
    sessions = [SessionRow(*row) for row in rows]
    if not sessions:
        return Kept([], [], [])
    ids = [row.id for row in sessions]
    messages = await connection.fetch(
        """
        SELECT session_id, position, tenant_id, packet_id, qos, topic, payload, retain, released
        FROM mqtt_messages WHERE session_id = ANY($1::uuid[]) ORDER BY session_id, position
        """,
        ids,
    )
    received = await connection.fetch(
        "SELECT session_id, packet_id FROM mqtt_received WHERE session_id = ANY($1::uuid[])", ids
    )
    return Kept(
        sessions,
        [MessageRow(*row) for row in messages],
        [(row["session_id"], row["packet_id"]) for row in received],
    )


async def load_messages(connection: Connection) -> list[MessageRow]:
    """Return what waits for the sessions of all tenants, in order."""
    rows = await connection.fetch(
        """
        SELECT session_id, position, tenant_id, packet_id, qos, topic, payload, retain, released
        FROM mqtt_messages ORDER BY session_id, position
        """
    )
    return [MessageRow(*row) for row in rows]


async def load_received(connection: Connection) -> list[tuple[UUID, int]]:
    """Return the QoS 2 messages that are not released, by session and packet id."""
    rows = await connection.fetch("SELECT session_id, packet_id FROM mqtt_received")
    return [(row["session_id"], row["packet_id"]) for row in rows]


async def load_retained(connection: Connection) -> list[RetainedRow]:
    """Return the retained messages of all tenants."""
    rows = await connection.fetch("SELECT tenant_id, topic, qos, payload FROM mqtt_retained")
    return [RetainedRow(*row) for row in rows]
