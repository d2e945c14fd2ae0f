"""Who may come in, and who is sent away, with which answer."""

import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from core import bus as channels
from core import topics
from core.settings import Settings
from tests.broker.conftest import Connect, broker_running, broker_settings
from tests.broker.raw import RawClient, connect_packet
from tests.support.servers import free_port
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def answer(broker: Settings, username: str | None, password: str | None) -> int:
    """Return the return code of the CONNACK."""
    async with RawClient(broker) as client:
        await client.send(connect_packet(username, password))
        header, body = await client.packet()
        assert header == 0x20
        if body[1]:
            assert await client.closed() == b""
        return body[1]


async def test_a_device_signs_in_with_its_id_and_key(broker: Settings, device: MadeDevice) -> None:
    assert await answer(broker, str(device.id), device.key) == 0


async def test_a_device_signs_in_with_its_key_alone(broker: Settings, device: MadeDevice) -> None:
    assert await answer(broker, device.key, None) == 0
    assert await answer(broker, device.key, "") == 0


async def test_a_wrong_key_an_unknown_device_and_nobody_are_refused(
    broker: Settings, device: MadeDevice, another: Callable[..., Awaitable[MadeDevice]]
) -> None:
    other = await another()
    assert await answer(broker, str(device.id), "wrong") == 4
    assert await answer(broker, str(uuid4()), device.key) == 4
    assert await answer(broker, str(other.id), device.key) == 4
    assert await answer(broker, "no-uuid", device.key) == 4
    assert await answer(broker, "unknown-key", None) == 4
    assert await answer(broker, None, None) == 5
    assert await answer(broker, "", "") == 5


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE device_credentials SET revoked_at = now() WHERE device_id = $1",
        "UPDATE device_credentials SET expires_at = now() - interval '1 s' WHERE device_id = $1",
        "UPDATE devices SET lifecycle = 'decommissioned' WHERE id = $1",
        "UPDATE devices SET lifecycle = 'expired' WHERE id = $1",
        "UPDATE tenants t SET active = false FROM devices d WHERE d.id = $1 AND d.tenant_id = t.id",
    ],
)
async def test_what_was_taken_out_of_service_is_refused(
    broker: Settings,
    device: MadeDevice,
    sql: Sql,
    statement: str,
) -> None:
    await sql.execute(statement, device.id)
    assert await answer(broker, str(device.id), device.key) == 5


async def test_revoking_drops_the_connection_and_keeps_it_out(
    broker: Settings, device: MadeDevice, sql: Sql, bus: Redis
) -> None:
    async with RawClient(broker) as client:
        assert await client.sign_in(device) == 0
        await sql.execute(
            "UPDATE device_credentials SET revoked_at = now() WHERE device_id = $1", device.id
        )
        await bus.publish(channels.DEVICE_DISCONNECT, str(device.id))
        await client.closed()
    assert await answer(broker, str(device.id), device.key) == 5


async def test_a_revocation_nobody_told_of_drops_the_connection_at_the_next_check(
    broker: Settings,
    device: MadeDevice,
    sql: Sql,
    bus: Redis,
    tenant_id: UUID,
) -> None:
    async with RawClient(broker) as client:
        assert await client.sign_in(device) == 0
        await sql.execute(
            "UPDATE device_credentials SET revoked_at = now() WHERE device_id = $1", device.id
        )
        await bus.publish(channels.TRIGGERS_CHANGED, str(tenant_id))  # brings the check forward
        await client.closed()


async def test_a_database_that_is_down_means_unavailable_and_no_crash(
    broker: Settings, device: MadeDevice, sql: Sql
) -> None:
    await sql.execute("ALTER ROLE iotlinker_ingest NOLOGIN")
    try:
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'iotlinker-broker'"
        )
        assert await answer(broker, str(device.id), device.key) == 3
    finally:
        await sql.execute("ALTER ROLE iotlinker_ingest LOGIN")

    async def again() -> bool:
        return await answer(broker, str(device.id), device.key) == 0

    await eventually(again)


async def test_another_devices_client_id_cannot_take_over_the_session(
    broker: Settings, device: MadeDevice, another: Callable[..., Awaitable[MadeDevice]]
) -> None:
    other = await another()
    async with RawClient(broker) as mine, RawClient(broker) as theirs:
        assert await mine.sign_in(device, client="same") == 0
        assert await theirs.sign_in(other, client="same") == 0
        await mine.send(b"\xc0\x00")
        assert await mine.packet() == (0xD0, b"")


async def test_the_same_device_and_client_id_takes_over(
    broker: Settings, device: MadeDevice
) -> None:
    async with RawClient(broker) as first, RawClient(broker) as second:
        assert await first.sign_in(device) == 0
        assert await second.sign_in(device) == 0
        await first.closed()
        await second.send(b"\xc0\x00")
        assert await second.packet() == (0xD0, b"")


async def test_the_oldest_of_too_many_sessions_gives_way(
    broker: Settings, device: MadeDevice
) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient(broker)) for _ in range(9)]
        for number, client in enumerate(clients):
            assert await client.sign_in(device, client=f"c{number}") == 0
        await clients[0].closed()
        await clients[1].send(b"\xc0\x00")
        assert await clients[1].packet() == (0xD0, b"")


async def test_connections_beyond_the_limit_are_closed(
    postgres_server: Settings, valkey_server: Settings, device: MadeDevice
) -> None:
    async with (
        broker_running(broker_settings(postgres_server, max_connections=1)) as broker,
        RawClient(broker) as first,
        RawClient(broker) as second,
    ):
        assert await first.sign_in(device) == 0
        assert await second.closed() == b""


async def test_it_starts_without_valkey_and_stores(
    postgres_server: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: Sql,
) -> None:
    settings = broker_settings(postgres_server)
    alone = dataclasses.replace(
        settings, valkey=settings.valkey.model_copy(update={"port": free_port()})
    )
    async with broker_running(alone) as broker, connect(broker, device) as client:
        await client.publish(topics.telemetry(device.id), '{"a": 1}', qos=1)
    count = await sql.fetchval("SELECT count(*) FROM telemetry WHERE device_id = $1", device.id)
    assert count == 1
