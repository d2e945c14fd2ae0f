"""Clients of other platforms' SDKs, unmodified, and what the database has of their messages."""

import asyncio
import json
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis

from core import bus as channels
from core.settings import Settings
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Open = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def opened(kind: Any, settings: Settings, token: str) -> AsyncGenerator[Any]:
    """A client of ThingsBoard's SDK that has signed in with an access token."""
    client = kind("127.0.0.1", settings.broker.port, token)
    try:
        # Its calls block.
        await asyncio.to_thread(client.connect)
        await eventually(client.is_connected)
        await eventually(lambda: client.rate_limits_received)
        yield client
    finally:
        client.stop()
        await asyncio.to_thread(client.disconnect)


@pytest.fixture
async def sign_in(broker: Settings) -> AsyncIterator[Open]:
    """Returns a function that signs a device in with a client of this kind."""
    async with AsyncExitStack() as stack:

        async def enter(kind: Any, device: MadeDevice) -> Any:
            return await stack.enter_async_context(opened(kind, broker, device.key))

        yield enter


@pytest.fixture(autouse=True)
def _old_habits() -> Any:
    # The SDKs use deprecated parts of paho.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


async def configure(sql: Sql, device: MadeDevice, **configuration: Any) -> None:
    """Give a device a configuration of its own."""
    await sql.execute(
        "UPDATE devices SET configuration = $2::jsonb WHERE id = $1",
        device.id,
        json.dumps(configuration),
    )


async def stored(sql: Sql, device_id: UUID) -> dict[str, list[float | None]]:
    """Return what was measured: name → values in the order of time."""
    rows = await sql.fetch(
        "SELECT m.names, t.values FROM telemetry t JOIN metric_lists m ON m.id = t.metrics_id "
        "WHERE t.device_id = $1 ORDER BY t.time",
        device_id,
    )
    found: dict[str, list[float | None]] = {}
    for row in rows:
        for name, value in zip(row["names"], row["values"], strict=True):
            found.setdefault(name, []).append(value)
    return found


async def reported(sql: Sql, device_id: UUID) -> dict[str, Any]:
    """Return what a device reported of itself."""
    state = await sql.fetchval(
        "SELECT reported::text FROM device_attributes WHERE device_id = $1", device_id
    )
    return {} if state is None else json.loads(state)


async def named(sql: Sql, tenant_id: UUID, name: str) -> UUID | None:
    """Return the device of this name."""
    return await sql.fetchval(
        "SELECT id FROM devices WHERE tenant_id = $1 AND name = $2", tenant_id, name
    )


async def dead(sql: Sql, device_id: UUID) -> list[tuple[str, str]]:
    """Return code and pointer of the dead letters of a device, oldest first."""
    rows = await sql.fetch(
        "SELECT code, pointer FROM telemetry_dead_letters WHERE device_id = $1 "
        "ORDER BY received_at, id",
        device_id,
    )
    return [(row["code"], row["pointer"]) for row in rows]


async def status(sql: Sql, device_id: UUID) -> str:
    """Return whether a device is online."""
    return await sql.fetchval("SELECT status FROM devices WHERE id = $1", device_id)


async def desire(sql: Sql, bus: Redis, tenant_id: UUID, device_id: UUID, **state: Any) -> None:
    """Set the desired state of a device."""
    await sql.execute(
        "INSERT INTO device_attributes (device_id, tenant_id, desired, desired_version) "
        "VALUES ($1, $2, $3::jsonb, 1) ON CONFLICT (device_id) DO UPDATE SET "
        "desired = excluded.desired, desired_version = device_attributes.desired_version + 1",
        device_id,
        tenant_id,
        json.dumps(state),
    )
    await bus.publish(channels.DEVICE_DOWN, str(device_id))


async def send_command(
    sql: Sql, bus: Redis, tenant_id: UUID, device_id: UUID, name: str, **payload: Any
) -> UUID:
    """Send a command; return its id."""
    command_id = await sql.fetchval(
        "INSERT INTO device_commands (tenant_id, device_id, name, payload, expires_at) "
        "VALUES ($1, $2, $3, $4::jsonb, $5) RETURNING id",
        tenant_id,
        device_id,
        name,
        json.dumps(payload),
        datetime.now(UTC) + timedelta(seconds=60),
    )
    await bus.publish(channels.DEVICE_DOWN, str(device_id))
    return command_id


async def answer_to(sql: Sql, command_id: UUID) -> Any:
    """Return the answer to a command, when it has come."""

    async def answered() -> str | None:
        return await sql.fetchval(
            "SELECT response::text FROM device_commands WHERE id = $1", command_id
        )

    return json.loads(await eventually(answered))
