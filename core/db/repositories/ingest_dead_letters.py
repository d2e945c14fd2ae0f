"""Refused messages as the ingest role keeps them: inserted, and bounded in number per device."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from core.db.repositories.ingest import Connection


class DeadLetterRow(NamedTuple):
    """A message that could not be stored as what it claims to be, and why."""

    tenant_id: UUID
    device_id: UUID
    received_at: datetime
    topic: str
    payload: bytes
    code: str
    pointer: str
    message: str


async def insert_dead_letters(connection: Connection, rows: Iterable[DeadLetterRow]) -> None:
    """Keep refused messages."""
    await connection.execute(
        """
        INSERT INTO telemetry_dead_letters
            (tenant_id, device_id, received_at, topic, payload, code, pointer, message)
        SELECT n.* FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bytea[],
                               $6::text[], $7::text[], $8::text[])
            AS n (tenant_id, device_id, received_at, topic, payload, code, pointer, message)
        WHERE EXISTS (SELECT FROM devices d WHERE d.id = n.device_id)
        """,
        *zip(*rows, strict=True),
    )


class TrimRow(NamedTuple):
    """A device whose oldest dead letters are to be deleted; `dropped` were never inserted."""

    device_id: UUID
    tenant_id: UUID
    dropped: int


async def trim_dead_letters(connection: Connection, rows: Iterable[TrimRow], keep: int) -> None:
    """Delete all but the newest `keep` dead letters of devices; count what is gone."""
    await connection.executemany(
        """
        WITH old AS (
            SELECT id FROM telemetry_dead_letters WHERE tenant_id = $2 AND device_id = $1
            ORDER BY received_at DESC, id OFFSET $4
        ), gone AS (
            DELETE FROM telemetry_dead_letters d USING old WHERE d.id = old.id RETURNING d.id
        ), counted AS (
            SELECT count(*) + $3::bigint AS number FROM gone
        )
        UPDATE devices SET dead_letters_dropped = dead_letters_dropped + counted.number
        FROM counted WHERE id = $1 AND counted.number > 0
        """,
        [(*row, keep) for row in rows],
    )
