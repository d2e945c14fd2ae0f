"""What the ingest transaction writes, and the triggers it is judged by.

On asyncpg as the role `ingest`. That role passes row-level security by, since COPY refuses tables
that have it; so every statement here names the tenant or the device itself. Rows whose device,
workflow or tenant has been deleted meanwhile are left out by the statements, so that they cannot
hold up the rows beside them.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple, TypeAlias
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from core.db.repositories.ingest_rows import COLUMNS, copy_data

# A string: only the type stubs of asyncpg know these as generic.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"


SEALING_LOCK = 7104204
"""Advisory lock (this, day since 2000): sealing holds it alone, ingest of old rows shares it."""


def instant(microseconds: int) -> datetime:
    """Return a time of the ingest path as a datetime."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)


class DefinitionRow(NamedTuple):
    """The published version of an enabled automation."""

    tenant_id: UUID
    workflow_id: UUID
    version: int
    triggers: str


async def telemetry_definitions(connection: Connection) -> list[DefinitionRow]:
    """Return what may have telemetry triggers, of all tenants; `triggers` is their JSON."""
    rows = await connection.fetch(
        """
        SELECT w.tenant_id, w.id, v.version, (v.definition->'triggers')::text
        FROM workflows w
        JOIN workflow_versions v ON v.workflow_id = w.id AND v.version = w.current_version
        JOIN tenants t ON t.id = w.tenant_id
        WHERE w.enabled AND t.active AND v.definition @> '{"triggers": [{"type": "telemetry"}]}'
        """
    )
    return [DefinitionRow(*row) for row in rows]


class TriggerStateRow(NamedTuple):
    """One row of `trigger_states`."""

    workflow_id: UUID
    trigger_index: int
    device_id: UUID
    tenant_id: UUID
    active: bool
    fired: bool
    since: datetime | None
    last_fired: datetime | None
    definition_sha256: bytes


async def save_trigger_states(connection: Connection, states: Iterable[TriggerStateRow]) -> None:
    """Store the newest state of triggers that changed."""
    await connection.execute(
        """
        INSERT INTO trigger_states
            (workflow_id, trigger_index, device_id, tenant_id, active, fired, since, last_fired,
             definition_sha256)
        SELECT n.* FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::uuid[], $5::bool[],
                               $6::bool[], $7::timestamptz[], $8::timestamptz[], $9::bytea[])
            AS n (workflow_id, trigger_index, device_id, tenant_id,
                  active, fired, since, last_fired, definition_sha256)
        WHERE EXISTS (SELECT FROM devices d WHERE d.id = n.device_id)
          AND EXISTS (SELECT FROM workflows w WHERE w.id = n.workflow_id)
        ON CONFLICT (workflow_id, trigger_index, device_id) DO UPDATE
        SET active = excluded.active, fired = excluded.fired, since = excluded.since,
            last_fired = excluded.last_fired, definition_sha256 = excluded.definition_sha256
        """,
        *zip(*states, strict=True),
    )


async def forget_trigger_states(
    connection: Connection, triggers: Sequence[tuple[UUID, int]]
) -> None:
    """Delete the states of triggers that are gone or were changed."""
    await connection.execute(
        """
        DELETE FROM trigger_states s USING unnest($1::uuid[], $2::int[]) AS n (id, position)
        WHERE s.workflow_id = n.id AND s.trigger_index = n.position
        """,
        *zip(*triggers, strict=True),
    )


async def metric_list(connection: Connection, tenant_id: UUID, names: Sequence[str]) -> int:
    """Return the id of a metric list, created when it is new."""
    inserted = await connection.fetchval(
        """
        INSERT INTO metric_lists (tenant_id, names) VALUES ($1, $2)
        ON CONFLICT (tenant_id, names) DO NOTHING RETURNING id
        """,
        tenant_id,
        list(names),
    )
    if inserted is None:
        inserted = await connection.fetchval(
            "SELECT id FROM metric_lists WHERE tenant_id = $1 AND names = $2",
            tenant_id,
            list(names),
        )
    return int(inserted)


async def ensure_partition(connection: Connection, day: date) -> None:
    """Make sure that a day's measurements have a partition of their own."""
    await connection.execute("SELECT ensure_telemetry_partition($1)", day)


class StaleHourRow(NamedTuple):
    """An hour, counted from 1970, whose roll-ups may miss rows of a device."""

    tenant_id: UUID
    device_id: UUID
    hour: int


async def note_stale(connection: Connection, rows: Iterable[StaleHourRow]) -> None:
    """Let hours be rolled up again; in the transaction of their late rows, or after it."""
    await connection.execute(
        """
        INSERT INTO rollup_stale (tenant_id, device_id, hour)
        SELECT n.tenant_id, n.device_id, to_timestamp(n.hour * 3600.0)
        FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS n (tenant_id, device_id, hour)
        """,
        *zip(*rows, strict=True),
    )


async def copy_telemetry(connection: Connection, rows: Sequence[bytes]) -> int:
    """Insert encoded rows.

    Raises:
        asyncpg.UniqueViolationError: One is stored already, or twice among them.
    """
    return await _copy(connection, "telemetry", rows)


async def merge_telemetry(connection: Connection, rows: Sequence[bytes]) -> int:
    """Insert encoded rows except those that are stored already, as rows or sealed.

    Runs in a transaction.

    Returns:
        The number of new rows.
    """
    await connection.execute(
        """
        CREATE TEMPORARY TABLE telemetry_arrived
            (device_id uuid, time timestamptz, metrics_id int, values float8[], quality smallint[])
            ON COMMIT DROP
        """
    )
    await _copy(connection, "telemetry_arrived", rows)
    # Of days that may be sealed at this moment, what is in a block must be known for certain.
    await connection.execute(
        """
        SELECT pg_advisory_xact_lock_shared($1, day) FROM (
            SELECT DISTINCT (time AT TIME ZONE 'UTC')::date - DATE '2000-01-01' AS day
            FROM telemetry_arrived WHERE time < now() - INTERVAL '1 day' ORDER BY day
        ) AS old
        """,
        SEALING_LOCK,
    )
    await connection.execute(
        """
        DELETE FROM telemetry_arrived a
        USING (
            SELECT device_id, metrics_id, min(time) AS first, max(time) AS last
            FROM telemetry_arrived WHERE time < now() - INTERVAL '1 day' GROUP BY 1, 2
        ) AS old
        CROSS JOIN LATERAL telemetry_sealed_times(
            old.device_id, old.metrics_id, old.first, old.last + INTERVAL '1 microsecond'
        ) AS sealed (time)
        WHERE a.device_id = old.device_id AND a.metrics_id = old.metrics_id
          AND a.time = sealed.time
        """
    )
    # No conflict target: naming one would need the right to read telemetry.
    done = await connection.execute(
        """
        INSERT INTO telemetry (device_id, time, metrics_id, values, quality)
        SELECT device_id, time, metrics_id, values, quality FROM telemetry_arrived
        ON CONFLICT DO NOTHING
        """
    )
    await connection.execute("DROP TABLE telemetry_arrived")
    return int(done.rsplit(" ", 1)[1])


async def _copy(connection: Connection, table: str, rows: Sequence[bytes]) -> int:
    async def data() -> AsyncIterator[bytes]:
        yield copy_data(rows)

    await connection.copy_to_table(table, source=data(), columns=COLUMNS, format="binary")
    return len(rows)


class LatestRow(NamedTuple):
    """The newest values of a device and metric list."""

    device_id: UUID
    metrics_id: int
    tenant_id: UUID
    time: datetime
    values: list[float | None]


async def upsert_latest(connection: Connection, rows: Iterable[LatestRow]) -> None:
    """Store newest values; an older one never replaces a newer one."""
    await connection.executemany(
        """
        INSERT INTO telemetry_latest AS l (device_id, metrics_id, tenant_id, time, values)
        SELECT $1::uuid, $2::int, $3::uuid, $4::timestamptz, $5::float8[]
        WHERE EXISTS (SELECT FROM devices WHERE id = $1)
          AND EXISTS (SELECT FROM metric_lists WHERE id = $2)
        ON CONFLICT (device_id, metrics_id) DO UPDATE
        SET time = excluded.time, values = excluded.values WHERE l.time < excluded.time
        """,
        list(rows),
    )


class EventRow(NamedTuple):
    """A named event; `data` is JSON."""

    tenant_id: UUID
    device_id: UUID
    time: datetime
    name: str
    data: str


async def insert_events(connection: Connection, rows: Iterable[EventRow]) -> None:
    """Store events; one that is stored already is left as it is.

    No conflict target: naming one would need the right to read events.
    """
    await connection.execute(
        """
        INSERT INTO device_events (tenant_id, device_id, time, name, data)
        SELECT n.tenant_id, n.device_id, n.time, n.name, n.data::jsonb
        FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[])
            AS n (tenant_id, device_id, time, name, data)
        WHERE EXISTS (SELECT FROM devices d WHERE d.id = n.device_id)
        ON CONFLICT DO NOTHING
        """,
        *zip(*rows, strict=True),
    )


class ReportedRow(NamedTuple):
    """What a device reports of itself; `patch` is a JSON object, null removes a member."""

    device_id: UUID
    tenant_id: UUID
    patch: str


# What a twin has become: members of the patch that are null are gone. `excluded` has lost them, so
# the patch is looked up again.
_MERGED = """
    (a.reported || excluded.reported) - (
        SELECT coalesce(array_agg(e.key), '{}')
        FROM unnest($1::uuid[], $3::text[]) AS m (device_id, patch),
             jsonb_each(m.patch::jsonb) AS e
        WHERE m.device_id = a.device_id AND e.value = 'null'
    )
"""


async def merge_reported(
    connection: Connection, rows: Sequence[ReportedRow], limit: int
) -> set[UUID]:
    """Merge patches into the twins' reported state; one row a device.

    Args:
        connection: In a transaction.
        rows: Patches.
        limit: Bytes of JSON that a reported state may have; one that has more may shrink.

    Returns:
        The devices whose patches were left out: their state would be too large, or they are gone.
    """
    merged = await connection.fetch(
        f"""
        INSERT INTO device_attributes AS a
            (device_id, tenant_id, reported, reported_version, reported_at)
        SELECT n.device_id, n.tenant_id, n.patch::jsonb - g.names, 1, now()
        FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS n (device_id, tenant_id, patch)
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(key), '{{}}') AS names FROM jsonb_each(n.patch::jsonb)
            WHERE value = 'null'
        ) AS g
        WHERE EXISTS (SELECT FROM devices d WHERE d.id = n.device_id)
          AND octet_length((n.patch::jsonb - g.names)::text) <= $4
        ON CONFLICT (device_id) DO UPDATE
        SET reported = {_MERGED}, reported_version = a.reported_version + 1, reported_at = now()
        WHERE octet_length(({_MERGED})::text) <= greatest($4, octet_length(a.reported::text) - 1)
        RETURNING device_id
        """,  # noqa: S608  (constants)
        *zip(*rows, strict=True),
        limit,
    )
    return {row.device_id for row in rows} - {row["device_id"] for row in merged}


class OutboxRow(NamedTuple):
    """Something Temporal must be told; `payload` is the JSON of `core.temporal.outbox`."""

    tenant_id: UUID
    kind: str
    key: str
    payload: str


async def enqueue(connection: Connection, rows: Iterable[OutboxRow]) -> None:
    """Add to the outbox; a cause that is there already is told once."""
    await connection.execute(
        """
        INSERT INTO trigger_outbox (tenant_id, kind, key, payload)
        SELECT n.tenant_id, n.kind, n.key, n.payload::jsonb
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
            AS n (tenant_id, kind, key, payload)
        WHERE EXISTS (SELECT FROM tenants t WHERE t.id = n.tenant_id)
        ON CONFLICT (key) DO NOTHING
        """,
        *zip(*rows, strict=True),
    )


class ResponseRow(NamedTuple):
    """A device's answer to a command; `response` is a JSON object."""

    command_id: UUID
    device_id: UUID
    response: str


async def store_responses(connection: Connection, rows: Iterable[ResponseRow]) -> list[UUID]:
    """Store answers. A late one is kept, but a command that expired stays expired.

    Returns:
        The commands that are answered by this.
    """
    answered = await connection.fetch(
        """
        UPDATE device_commands c
        SET response = n.response::jsonb, answered_at = now(),
            status = CASE WHEN c.status IN ('pending', 'sent') THEN 'answered' ELSE c.status END
        FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS n (id, device_id, response)
        WHERE c.id = n.id AND c.device_id = n.device_id AND c.answered_at IS NULL
        RETURNING c.id, c.status
        """,
        *zip(*rows, strict=True),
    )
    return [row["id"] for row in answered if row["status"] == "answered"]
