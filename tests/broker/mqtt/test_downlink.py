"""Commands and the desired twin reach the device; presence is known."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import aiomqtt
import asyncpg
import pytest
from redis.asyncio import Redis

from core import bus as channels
from core import topics
from core.settings import Settings
from core.temporal.names import provisioning_id
from tests.broker.conftest import Connect, broker_running, broker_settings
from tests.broker.raw import RawClient, subscribe_packet
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def command(
    sql: Sql, tenant_id: UUID, device: MadeDevice, name: str = "reboot", lives: float = 60
) -> UUID:
    """Insert a command; return its id."""
    return await sql.fetchval(
        "INSERT INTO device_commands (tenant_id, device_id, name, payload, expires_at) "
        "VALUES ($1, $2, $3, '{\"to\": 0.4}', $4) RETURNING id",
        tenant_id,
        device.id,
        name,
        datetime.now(UTC) + timedelta(seconds=lives),
    )


async def status(sql: Sql, command_id: UUID) -> str:
    return await sql.fetchval("SELECT status FROM device_commands WHERE id = $1", command_id)


async def received(client: aiomqtt.Client) -> aiomqtt.Message:
    async with asyncio.timeout(10):
        return await anext(aiter(client.messages))


def body(message: aiomqtt.Message) -> Any:
    assert isinstance(message.payload, bytes)
    return json.loads(message.payload)


async def test_a_command_reaches_a_connected_device_and_its_answer_is_stored(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: Sql,
    bus: Redis,
    tenant_id: UUID,
) -> None:
    async with connect(broker, device) as client, bus.pubsub() as pubsub:
        await client.subscribe(topics.command(device.id, "+"), qos=1)
        command_id = await command(sql, tenant_id, device)
        await pubsub.subscribe(channels.command_answered(command_id))
        await bus.publish(channels.DEVICE_DOWN, str(device.id))
        message = await received(client)
        assert str(message.topic) == topics.command(device.id, "reboot")
        assert message.qos == 1
        assert body(message) == {"id": str(command_id), "payload": {"to": 0.4}}

        async def sent() -> bool:
            return await status(sql, command_id) == "sent"

        await eventually(sent)
        answer = json.dumps({"id": str(command_id), "response": {"done": True}})
        await client.publish(topics.command_response(device.id, "reboot"), answer, qos=1)
        row = await sql.fetchrow("SELECT * FROM device_commands WHERE id = $1", command_id)
        assert row is not None
        assert row["status"] == "answered"
        assert json.loads(row["response"]) == {"done": True}

        async def told() -> Any:
            return await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)

        await eventually(told)


async def test_open_commands_wait_for_the_device_and_expired_ones_are_not_sent(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    late = await command(sql, tenant_id, device, lives=-1)
    ids = [await command(sql, tenant_id, device, f"c{i}") for i in range(3)]
    async with connect(broker, device) as client:
        await client.subscribe("v1/devices/me/commands/+", qos=1)
        messages = [await received(client) for _ in range(3)]
    assert [str(m.topic) for m in messages] == [f"v1/devices/me/commands/c{i}" for i in range(3)]
    assert [body(m)["id"] for m in messages] == [str(i) for i in ids]
    assert await status(sql, late) == "expired"


async def test_a_command_is_sent_once_a_connection_and_again_after_it(
    broker: Settings, device: MadeDevice, sql: Sql, bus: Redis, tenant_id: UUID
) -> None:
    await command(sql, tenant_id, device, "first")
    filters = ("v1/devices/me/commands/+", 0)
    async with RawClient(broker) as client:
        await client.sign_in(device, clean=False)
        await client.send(subscribe_packet(filters))
        assert (await client.packet())[0] == 0x90
        assert b"first" in (await client.packet())[1]
        await command(sql, tenant_id, device, "second")
        await bus.publish(channels.DEVICE_DOWN, str(device.id))
        assert b"second" in (await client.packet())[1]
    async with RawClient(broker) as client:  # the session has kept the subscription
        await client.sign_in(device, clean=False)
        assert b"first" in (await client.packet())[1]
        assert b"second" in (await client.packet())[1]


async def test_delivery_uses_the_lower_qos(
    broker: Settings, device: MadeDevice, sql: Sql, tenant_id: UUID
) -> None:
    await command(sql, tenant_id, device)
    for granted, header in ((0, 0x30), (1, 0x32), (2, 0x32)):
        async with RawClient(broker) as client:
            await client.sign_in(device)
            await client.send(subscribe_packet(("v1/devices/me/commands/+", granted)))
            await client.packet()
            assert (await client.packet())[0] == header


async def test_an_answer_after_the_expiry_is_kept_but_does_not_revive_the_command(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    command_id = await command(sql, tenant_id, device)
    await sql.execute("UPDATE device_commands SET status = 'expired' WHERE id = $1", command_id)
    answer = json.dumps({"id": str(command_id), "response": {"done": True}})
    async with connect(broker, device) as client:
        await client.publish(topics.command_response(device.id, "reboot"), answer, qos=1)
    row = await sql.fetchrow("SELECT * FROM device_commands WHERE id = $1", command_id)
    assert row is not None
    assert row["status"] == "expired"
    assert row["answered_at"] is not None


async def test_a_device_cannot_answer_for_another(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: Sql,
    tenant_id: UUID,
    another: Callable[..., Awaitable[MadeDevice]],
) -> None:
    other = await another()
    command_id = await command(sql, tenant_id, other)
    answer = json.dumps({"id": str(command_id), "response": {}})
    async with connect(broker, device) as client:
        await client.publish(topics.command_response(device.id, "reboot"), answer, qos=1)
    assert await status(sql, command_id) == "pending"


async def test_the_desired_twin_is_sent_retained_on_subscribing_and_again_when_it_changes(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: Sql,
    bus: Redis,
    tenant_id: UUID,
) -> None:
    await sql.execute(
        "INSERT INTO device_attributes (device_id, tenant_id, desired, desired_version) "
        "VALUES ($1, $2, '{\"rate\": 5}', 1)",
        device.id,
        tenant_id,
    )
    async with connect(broker, device) as client:
        await client.subscribe(topics.desired(device.id), qos=1)
        first = await received(client)
        assert (body(first), first.retain) == ({"rate": 5}, True)
        await bus.publish(channels.DEVICE_DOWN, str(device.id))  # unchanged: nothing is sent
        await sql.execute(
            "UPDATE device_attributes SET desired = '{\"rate\": 9}', desired_version = 2 "
            "WHERE device_id = $1",
            device.id,
        )
        await bus.publish(channels.DEVICE_DOWN, str(device.id))
        second = await received(client)
        assert (body(second), second.retain) == ({"rate": 9}, False)


async def presence(sql: Sql, device: MadeDevice) -> tuple[str, bool]:
    row = await sql.fetchrow("SELECT status, last_seen FROM devices WHERE id = $1", device.id)
    assert row is not None
    return row["status"], row["last_seen"] is not None


async def test_presence_is_recorded_and_told(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql, bus: Redis, tenant_id: UUID
) -> None:
    async with bus.pubsub() as pubsub:
        await pubsub.subscribe(channels.dashboard(tenant_id))
        told: list[Any] = []

        async def online() -> bool:
            return await presence(sql, device) == ("online", True)

        async def offline() -> bool:
            return await presence(sql, device) == ("offline", True)

        async def both() -> bool:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                told.append(json.loads(message["data"]))
            return len(told) == 2

        async with connect(broker, device):
            await eventually(online)
        await eventually(offline)
        await eventually(both)
    assert [(t["type"], t["device_id"], t["status"]) for t in told] == [
        ("presence", str(device.id), "online"),
        ("presence", str(device.id), "offline"),
    ]
    assert all(datetime.fromisoformat(t["at"]) for t in told)


async def test_the_stop_of_the_broker_leaves_nobody_online(
    postgres_server: Settings, valkey_server: Settings, device: MadeDevice, sql: Sql
) -> None:
    async with broker_running(broker_settings(postgres_server)) as broker:
        client = await RawClient(broker).__aenter__()
        await client.sign_in(device)

        async def online() -> bool:
            return (await presence(sql, device))[0] == "online"

        await eventually(online)
    assert (await presence(sql, device))[0] == "offline"
    await client.closed()
    await client.__aexit__(None, None, None)


async def test_devices_left_online_by_a_killed_broker_are_offline_after_the_start(
    postgres_server: Settings, valkey_server: Settings, device: MadeDevice, sql: Sql
) -> None:
    killed = "UPDATE devices SET status = 'online', broker_id = gen_random_uuid() WHERE id = $1"
    await sql.execute(killed, device.id)
    async with broker_running(broker_settings(postgres_server)):
        assert (await presence(sql, device))[0] == "offline"


@pytest.mark.parametrize("lifecycle", ["registered", "pending"])
async def test_the_first_connection_is_told_to_provisioning_once(
    broker: Settings,
    connect: Connect,
    sql: Sql,
    tenant_id: UUID,
    another: Callable[..., Awaitable[MadeDevice]],
    lifecycle: str,
) -> None:
    new = await another(lifecycle=lifecycle)
    for _ in range(2):
        async with connect(broker, new):
            pass

    async def signals() -> list[Any]:
        rows = await sql.fetch("SELECT * FROM trigger_outbox WHERE tenant_id = $1", tenant_id)
        return [dict(row) for row in rows]

    (row,) = await eventually(signals)
    payload = json.loads(row["payload"])
    assert row["kind"] == payload["kind"] == "signal"
    assert payload["workflow_id"] == provisioning_id(tenant_id, new.id)
    assert payload["signal"] == "device_connected"
    assert payload["payload"]["device_id"] == str(new.id)
