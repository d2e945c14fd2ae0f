"""The newest dead letters of a device are kept, and the rest counted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from broker.ingest.dead_letters import Graveyard
from core.db.repositories.ingest_dead_letters import DeadLetterRow
from core.settings import Settings
from tests.support.tenants import MadeDevice

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
START = datetime(2025, 3, 1, tzinfo=UTC)


@pytest.fixture
async def ingest(postgres_server: Settings) -> AsyncIterator[Sql]:
    """PostgreSQL as the role that ingests."""
    connection = await asyncpg.connect(postgres_server.database_url("ingest"), timeout=10)
    yield connection
    await connection.close(timeout=10)


def letters(tenant_id: UUID, device: MadeDevice, *numbers: int) -> list[DeadLetterRow]:
    """Return letters by the number in their payload."""
    return [
        DeadLetterRow(
            tenant_id,
            device.id,
            START + timedelta(seconds=number),
            "topic",
            str(number).encode(),
            "not_json",
            "",
            "message",
        )
        for number in numbers
    ]


async def kept(sql: Sql, device: MadeDevice) -> tuple[list[int], int]:
    """Return the numbers of a device's letters, and how many were dropped."""
    rows = await sql.fetch(
        "SELECT payload FROM telemetry_dead_letters WHERE device_id = $1 ORDER BY received_at",
        device.id,
    )
    dropped = await sql.fetchval(
        "SELECT dead_letters_dropped FROM devices WHERE id = $1", device.id
    )
    return [int(row["payload"]) for row in rows], dropped


async def test_the_newest_are_kept_and_the_others_counted(
    ingest: Sql, sql: Sql, tenant_id: UUID, device: MadeDevice
) -> None:
    graveyard = Graveyard(keep=5, slack=3)
    for number in range(20):
        await graveyard.bury(ingest, letters(tenant_id, device, number))
        numbers, dropped = await kept(sql, device)
        assert len(numbers) <= 5 + 3
        assert numbers == list(range(dropped, number + 1))
    assert (await kept(sql, device))[1] >= 20 - 8


async def test_a_batch_of_more_than_are_kept_is_never_stored_whole(
    ingest: Sql, sql: Sql, tenant_id: UUID, device: MadeDevice
) -> None:
    graveyard = Graveyard(keep=5, slack=3)
    await graveyard.bury(ingest, letters(tenant_id, device, 0, 1))
    await graveyard.bury(ingest, letters(tenant_id, device, *range(2, 30)))
    assert await kept(sql, device) == ([25, 26, 27, 28, 29], 25)


async def test_what_another_process_left_is_bounded_at_the_first_letter(
    ingest: Sql, sql: Sql, tenant_id: UUID, device: MadeDevice
) -> None:
    await Graveyard(keep=100).bury(ingest, letters(tenant_id, device, *range(20)))
    await Graveyard(keep=5).bury(ingest, letters(tenant_id, device, 20))
    assert await kept(sql, device) == ([16, 17, 18, 19, 20], 16)


async def test_the_ingest_role_cannot_read_what_is_in_them(
    ingest: Sql, tenant_id: UUID, device: MadeDevice
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ingest.fetch("SELECT payload FROM telemetry_dead_letters")
