"""ThingsBoard's SDK for gateways, unmodified; and what a gateway may not do."""

import asyncio
import json
from typing import Any
from uuid import UUID

import aiomqtt
import asyncpg
import pytest
from redis.asyncio import Redis
from tb_gateway_mqtt import TBGatewayMqttClient

from core import bus as channels
from core.db.session import Database
from core.settings import Settings
from tests.broker.conftest import Connect
from tests.broker.dialects.conftest import (
    Open,
    Sql,
    answer_to,
    configure,
    dead,
    desire,
    named,
    reported,
    send_command,
    status,
    stored,
)
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant
from tests.support.waiting import eventually


@pytest.fixture
async def gateway(device: MadeDevice, sql: Sql) -> MadeDevice:
    """A device that may speak for others; those it brings are of the profile `engine`."""
    await configure(sql, device, gateway={"profile": "engine", "max_children": 3})
    return device


async def arrived(info: Any) -> None:
    assert await asyncio.to_thread(info.get) == 0


async def test_a_gateway_brings_its_devices_and_speaks_for_them(
    gateway: MadeDevice, sign_in: Open, sql: Sql, tenant_id: UUID
) -> None:
    client = await sign_in(TBGatewayMqttClient, gateway)
    await arrived(client.gw_connect_device("pump A", "none such"))
    child = await named(sql, tenant_id, "pump A")
    assert child is not None
    await arrived(client.gw_send_telemetry("pump A", {"a": 1}))
    await arrived(
        client.gw_send_telemetry("pump A", [{"ts": 1_751_649_600_000, "values": {"a": 0}}])
    )
    assert await stored(sql, child) == {"a": [0.0, 1.0]}
    await arrived(client.gw_send_attributes("pump A", {"model": "x"}))
    assert await reported(sql, child) == {"model": "x"}
    await arrived(client.gw_claim("pump A", "secret", 60_000))
    assert await sql.fetchval("SELECT count(*) FROM device_claims WHERE device_id = $1", child) == 1
    await arrived(client.gw_send_telemetry("pump B", {"b": 2}))
    other = await named(sql, tenant_id, "pump B")
    assert other is not None
    assert await stored(sql, other) == {"b": [2.0]}

    async def both() -> bool:
        return [await status(sql, one) for one in (child, other)] == ["online", "online"]

    await eventually(both)
    await arrived(client.gw_disconnect_device("pump A"))

    async def gone() -> bool:
        return [await status(sql, one) for one in (child, other)] == ["offline", "online"]

    await eventually(gone)


async def test_one_acknowledgement_covers_all_devices_of_a_message(
    broker: Settings, gateway: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    message = {"A": [{"a": 1}, {"a": 2}], "B": {"values": {"b": 3}}, "C": [{"x": [1]}, {"a": 5}]}
    async with connect(broker, gateway) as client:
        await client.publish("v1/gateway/telemetry", json.dumps(message), qos=1)
        found = {name: await named(sql, tenant_id, name) for name in message}
        measured = [await stored(sql, one) for one in found.values() if one is not None]
    assert measured == [{"a": [1.0, 2.0]}, {"b": [3.0]}, {"a": [5.0]}]


async def test_children_go_offline_with_their_gateway(
    broker: Settings, gateway: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    async with connect(broker, gateway) as client:
        await client.publish("v1/gateway/connect", '{"device": "A"}', qos=1)
        child = await named(sql, tenant_id, "A")
        assert child is not None

        async def online() -> bool:
            return await status(sql, child) == "online"

        await eventually(online)

    async def offline() -> bool:
        return await status(sql, child) == "offline"

    await eventually(offline)


async def test_commands_and_attributes_reach_a_child_through_its_gateway(
    gateway: MadeDevice, sign_in: Open, sql: Sql, bus: Redis, tenant_id: UUID
) -> None:
    client = await sign_in(TBGatewayMqttClient, gateway)
    calls: list[Any] = []

    def called(_: Any, body: Any) -> None:
        calls.append(body)
        client.gw_send_rpc_reply(body["device"], body["data"]["id"], {"ok": True})

    client.gw_set_server_side_rpc_request_handler(called)
    await arrived(client.gw_connect_device("A"))
    child = await named(sql, tenant_id, "A")
    assert child is not None
    command_id = await send_command(sql, bus, tenant_id, child, "reboot", now=True)
    assert await answer_to(sql, command_id) == {"ok": True}
    (call,) = calls
    assert (call["device"], call["data"]["method"]) == ("A", "reboot")
    assert call["data"]["params"] == {"now": True}

    told: list[Any] = []
    client.gw_subscribe_to_all_attributes(told.append)
    await desire(sql, bus, tenant_id, child, target=5)
    await eventually(lambda: told == [{"device": "A", "data": {"target": 5}}])

    await arrived(client.gw_send_attributes("A", {"model": "x"}))
    answers: list[Any] = []
    client.gw_request_client_attributes("A", ["model"], lambda found, _: answers.append(found))
    await eventually(lambda: answers)
    client.gw_request_shared_attributes("A", ["target"], lambda found, _: answers.append(found))
    await eventually(lambda: len(answers) == 2)
    assert [answer["values"] for answer in answers] == [{"model": "x"}, {"target": 5}]


async def test_a_gateway_reaches_no_device_that_was_not_given_to_it(
    broker: Settings,
    gateway: MadeDevice,
    connect: Connect,
    sql: Sql,
    owner: Database,
    tenant_id: UUID,
    another: Any,
) -> None:
    neighbour = await another(name="neighbour")
    other_gateway = await another(name="other gateway")
    await configure(sql, other_gateway, gateway={"profile": "engine"})
    other_tenant = await make_tenant(owner)
    foreign = await make_device(
        owner, other_tenant, await make_profile(owner, other_tenant), name="foreign"
    )
    async with connect(broker, other_gateway) as client:
        await client.publish("v1/gateway/telemetry", '{"theirs": {"a": 1}}', qos=1)
    theirs = await named(sql, tenant_id, "theirs")
    assert theirs is not None

    said = {"neighbour": {"a": 2}, "theirs": {"a": 2}, "foreign": {"a": 2}}
    async with connect(broker, gateway) as client:
        await client.publish("v1/gateway/telemetry", json.dumps(said), qos=1)
        await client.publish("v1/gateway/attributes", '{"neighbour": {"a": 2}}', qos=1)
    assert await stored(sql, neighbour.id) == {}
    assert await reported(sql, neighbour.id) == {}
    assert await stored(sql, theirs) == {"a": [1.0]}
    assert await stored(sql, foreign.id) == {}
    # A name that another tenant uses is free in this one.
    mine = await named(sql, tenant_id, "foreign")
    assert mine is not None
    assert await stored(sql, mine) == {"a": [2.0]}
    assert sorted(await dead(sql, gateway.id)) == [
        ("not_its_device", "/neighbour"),
        ("not_its_device", "/neighbour"),
        ("not_its_device", "/theirs"),
    ]


async def test_a_device_that_was_given_to_a_gateway_is_its_child(
    broker: Settings, gateway: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID, another: Any
) -> None:
    given = await another(name="given")
    await sql.execute(
        "INSERT INTO gateway_children (gateway_id, device_id, tenant_id, name) "
        "VALUES ($1, $2, $3, 'local name')",
        gateway.id,
        given.id,
        tenant_id,
    )
    async with connect(broker, gateway) as client:
        await client.publish("v1/gateway/telemetry", '{"local name": {"a": 1}}', qos=1)
    assert await stored(sql, given.id) == {"a": [1.0]}


async def test_children_and_profiles_are_limited_and_the_rest_is_taken(
    broker: Settings, gateway: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    async with connect(broker, gateway) as client:
        message = {name: {"a": 1} for name in ("a", "b", "c", "d")}
        await client.publish("v1/gateway/telemetry", json.dumps(message), qos=1)
        await client.publish("v1/gateway/telemetry", '{"a": {"a": "x"}, "b": [7]}', qos=1)
        await client.publish("v1/gateway/connect", "[]", qos=1)
    assert await dead(sql, gateway.id) == [
        ("too_many_children", "/d"),
        ("invalid_form", ""),
    ]
    child = await named(sql, tenant_id, "b")
    assert child is not None
    assert await dead(sql, child) == [("invalid_form", "/0")]


async def test_a_device_that_is_no_gateway_may_not_speak_as_one(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with connect(broker, device, timeout=2) as client:
            await client.publish("v1/gateway/telemetry", '{"A": {"a": 1}}', qos=1)
    assert await named(sql, tenant_id, "A") is None


async def test_a_child_out_of_service_stays_out(
    broker: Settings,
    gateway: MadeDevice,
    connect: Connect,
    sql: Sql,
    bus: Redis,
    tenant_id: UUID,
) -> None:
    async with connect(broker, gateway) as client:
        await client.publish("v1/gateway/telemetry", '{"A": {"a": 1}}', qos=1)
        child = await named(sql, tenant_id, "A")
        assert child is not None
        await sql.execute("UPDATE devices SET lifecycle = 'decommissioned' WHERE id = $1", child)
        await bus.publish(channels.DEVICE_DISCONNECT, str(child))

        async def refused() -> bool:
            await client.publish("v1/gateway/telemetry", '{"A": {"a": 2}}', qos=1)
            return ("out_of_service", "/A") in await dead(sql, gateway.id)

        await eventually(refused)


async def test_a_message_of_a_gateway_waits_for_the_database(
    broker: Settings, gateway: MadeDevice, connect: Connect, sql: Sql, postgres_server: Settings
) -> None:
    locker = await asyncpg.connect(postgres_server.admin_database_url, timeout=10)
    try:
        async with connect(broker, gateway) as client:
            async with locker.transaction():
                await locker.execute("LOCK TABLE gateway_children IN ACCESS EXCLUSIVE MODE")
                first = asyncio.create_task(
                    client.publish("v1/gateway/telemetry", '{"A": {"a": 1}}', qos=1, timeout=30)
                )
                second = asyncio.create_task(
                    client.publish("v1/devices/me/telemetry", '{"b": 1}', qos=1, timeout=30)
                )
                done, _ = await asyncio.wait((first, second), timeout=0.5)
                assert not done  # nothing is read meanwhile, and the order is kept
            await asyncio.gather(first, second)
        assert await stored(sql, gateway.id) == {"b": [1.0]}
    finally:
        await locker.close(timeout=10)


async def test_no_acknowledgement_leaves_before_every_device_is_committed(
    broker: Settings,
    gateway: MadeDevice,
    connect: Connect,
    sql: Sql,
    postgres_server: Settings,
    tenant_id: UUID,
) -> None:
    locker = await asyncpg.connect(postgres_server.admin_database_url, timeout=10)
    try:
        async with connect(broker, gateway) as client:
            await client.publish("v1/gateway/telemetry", '{"A": {"a": 1}, "B": {"b": 1}}', qos=1)
            child = await named(sql, tenant_id, "B")
            assert child is not None
            async with locker.transaction():
                # The rows of A can be written, the twin of B cannot.
                await locker.execute("LOCK TABLE device_attributes IN ACCESS EXCLUSIVE MODE")
                message = '{"A": {"a": 2}, "B": {"b": 2, "mode": "eco"}}'
                task = asyncio.create_task(
                    client.publish("v1/gateway/telemetry", message, qos=1, timeout=30)
                )
                done, _ = await asyncio.wait((task,), timeout=0.5)
                assert not done
            await task
            assert await stored(sql, child) == {"b": [1.0, 2.0]}
            assert await reported(sql, child) == {"mode": "eco"}
    finally:
        await locker.close(timeout=10)
