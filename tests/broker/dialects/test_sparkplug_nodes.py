"""Edge nodes of Sparkplug B: a PyPI client unmodified, and payloads that no library makes."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiomqtt
import pytest
from paho.mqtt.client import Client
from redis.asyncio import Redis

from broker.dialects.sparkplug.payloads import DataType
from broker.dialects.sparkplug.schema import PayloadMessage
from core.settings import Settings
from tests.broker.conftest import Connect
from tests.broker.dialects.conftest import (
    Sql,
    answer_to,
    configure,
    dead,
    named,
    reported,
    send_command,
    status,
    stored,
)
from tests.broker.dialects.test_sparkplug import MS, TEMPERATURE, bd_seq, message, metric
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

GROUP, EDGE = "plant", "edge-1"


@pytest.fixture
async def edge(device: MadeDevice, sql: Sql) -> MadeDevice:
    """An edge node whose devices are of the profile `engine`."""
    await configure(sql, device, sparkplug={"group": GROUP, "edge": EDGE, "profile": "engine"})
    return device


def topic(kind: str, device: str | None = None) -> str:
    return f"spBv1.0/{GROUP}/{kind}/{EDGE}" + ("" if device is None else f"/{device}")


async def received(client: aiomqtt.Client) -> tuple[str, Any]:
    """Return topic and payload of the next command."""
    async with asyncio.timeout(10):
        found = await anext(aiter(client.messages))
    assert isinstance(found.payload, bytes)
    return str(found.topic), PayloadMessage.FromString(found.payload)


async def is_now(sql: Sql, device_id: UUID, wanted: str) -> None:
    async def reached() -> bool:
        return await status(sql, device_id) == wanted

    await eventually(reached)


@asynccontextmanager
async def connected(node: Any, settings: Settings) -> AsyncGenerator[None]:
    """An edge node of pysparkplug that is connected; its calls block."""
    await asyncio.to_thread(node.connect, "127.0.0.1", port=settings.broker.port)
    try:
        yield
    finally:
        await asyncio.to_thread(node.disconnect)


async def test_an_edge_node_of_a_library_is_understood_both_ways(
    broker: Settings,
    edge: MadeDevice,
    sql: Sql,
    bus: Redis,
    tenant_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A call that did nothing in paho 1 and is gone in paho 2; the library still makes it.
    monkeypatch.setattr(Client, "message_retry_set", lambda *_, **__: None, raising=False)
    sparkplug = pytest.importorskip("pysparkplug", reason="a development dependency")

    def measure(name: str, kind: Any, value: Any) -> Any:
        return sparkplug.Metric(
            timestamp=int(time.time() * 1000), name=name, datatype=kind, value=value
        )

    def report(*metrics: Any) -> None:
        # Not `update_device`: in 0.3.0 it leaves the device out of the topic.
        where = sparkplug.Topic(
            group_id=GROUP,
            message_type=sparkplug.MessageType.DDATA,
            edge_node_id=EDGE,
            device_id="pump",
        )
        data = sparkplug.DData(int(time.time() * 1000), node._seq, metrics)
        sent = sparkplug.Message(where, data, sparkplug.QoS.AT_LEAST_ONCE, retain=False)
        client.publish(sent, include_dtypes=True)

    def commanded(_: Any, message: Any) -> None:
        report(*message.payload.metrics)

    kinds = sparkplug.DataType
    first = (measure("level", kinds.INT16, -3), measure("on", kinds.BOOLEAN, False))
    pump = sparkplug.Device("pump", (*first, measure("model", kinds.STRING, "x")), commanded)
    client = sparkplug.Client(client_id="c", username=str(edge.id), password=edge.key)
    node = sparkplug.EdgeNode(GROUP, EDGE, (measure("load", kinds.DOUBLE, 0.5),), client)
    node.register(pump)
    async with connected(node, broker):
        child = await eventually(lambda: named(sql, tenant_id, f"{GROUP}/{EDGE}/pump"))

        async def born() -> bool:
            return await stored(sql, child) == {"level": [-3.0], "on": [0.0]}

        await eventually(born)
        assert await stored(sql, edge.id) == {"load": [0.5]}
        assert await reported(sql, child) == {"model": "x"}
        await is_now(sql, child, "online")
        report(measure("level", kinds.INT16, 7))

        async def measured() -> bool:
            return (await stored(sql, child))["level"] == [-3.0, 7.0]

        await eventually(measured)
        command_id = await send_command(sql, bus, tenant_id, child, "write", on=True)
        assert await answer_to(sql, command_id) == {"metrics": {"on": 1.0}}
        node.deregister("pump")
        await is_now(sql, child, "offline")
        assert await status(sql, edge.id) == "online"
    await is_now(sql, edge.id, "offline")
    assert await dead(sql, edge.id) == []


async def test_aliases_stand_for_names_and_commands_use_them(
    broker: Settings, edge: MadeDevice, connect: Connect, sql: Sql, bus: Redis, tenant_id: UUID
) -> None:
    async with connect(broker, edge) as client:
        await client.subscribe(topic("NCMD"), qos=1)
        await client.subscribe(f"spBv1.0/{GROUP}/DCMD/{EDGE}/#", qos=1)
        aliased = metric("on", False, DataType.BOOLEAN, "boolean_value", alias=4)
        await client.publish(topic("NBIRTH"), message(bd_seq(0), seq=0), qos=1)
        await client.publish(topic("DBIRTH", "pump"), message(aliased, seq=1), qos=1)
        data = message({"alias": 4, "boolean_value": True}, seq=2, sent=int(time.time() * 1000) + 5)
        await client.publish(topic("DDATA", "pump"), data, qos=1)
        child = await named(sql, tenant_id, f"{GROUP}/{EDGE}/pump")
        assert child is not None
        assert await stored(sql, child) == {"on": [0.0, 1.0]}
        wrong = await send_command(sql, bus, tenant_id, child, "write", none=1)
        assert "none" in (await answer_to(sql, wrong))["error"]
        await send_command(sql, bus, tenant_id, child, "write", on=True)
        where, command = await received(client)
        assert where == topic("DCMD", "pump")
        assert (command.metrics[0].alias, command.metrics[0].HasField("name")) == (4, False)
        assert command.metrics[0].boolean_value


async def test_a_gap_and_data_without_birth_ask_for_a_rebirth(
    broker: Settings, edge: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, edge) as client:
        await client.subscribe(topic("NCMD"), qos=1)
        unknown = message({"alias": 9, "double_value": 1.0}, seq=7)
        await client.publish(topic("NDATA"), unknown, qos=1)
        where, command = await received(client)
        assert where == topic("NCMD")
        assert [(m.name, m.boolean_value) for m in command.metrics] == [
            ("Node Control/Rebirth", True)
        ]
    assert await dead(sql, edge.id) == [("unknown_alias", "/metrics/0")]


async def test_after_a_restart_of_the_broker_a_rebirth_gives_the_names_again(
    broker: Settings, edge: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    aliased = metric("on", False, DataType.BOOLEAN, "boolean_value", alias=4)
    async with connect(broker, edge) as client:
        await client.publish(topic("NBIRTH"), message(bd_seq(0), seq=0), qos=1)
        await client.publish(topic("DBIRTH", "pump"), message(aliased, seq=1), qos=1)
    # Another connection knows as little as another process.
    async with connect(broker, edge) as client:
        await client.subscribe(topic("NCMD"), qos=1)
        data = message({"alias": 4, "boolean_value": True}, seq=2)
        await client.publish(topic("DDATA", "pump"), data, qos=1)
        await received(client)
        await client.publish(topic("NBIRTH"), message(bd_seq(1), seq=0), qos=1)
        await client.publish(topic("DBIRTH", "pump"), message(aliased, seq=1), qos=1)
        later = message(
            {"alias": 4, "boolean_value": True}, seq=2, sent=int(time.time() * 1000) + 5
        )
        await client.publish(topic("DDATA", "pump"), later, qos=1)
    child = await named(sql, tenant_id, f"{GROUP}/{EDGE}/pump")
    assert child is not None
    assert (await stored(sql, child))["on"][-1] == 1.0


async def test_a_lost_connection_is_the_death_of_node_and_devices(
    broker: Settings, edge: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    will = aiomqtt.Will(topic("NDEATH"), message(bd_seq(3), sent=None), qos=1)
    client = connect(broker, edge, will=will)
    async with client:
        await client.publish(topic("NBIRTH"), message(bd_seq(3), TEMPERATURE, seq=0), qos=1)
        born = message(TEMPERATURE | {"alias": 5}, seq=1)
        await client.publish(topic("DBIRTH", "pump"), born, qos=1)
        child = await named(sql, tenant_id, f"{GROUP}/{EDGE}/pump")
        assert child is not None
        await is_now(sql, child, "online")
        # A late death of an earlier life changes nothing.
        await client.publish(topic("NDEATH"), message(bd_seq(2), sent=None), qos=1)
        data = message({"alias": 5, "double_value": 21.0}, seq=2, sent=MS + 5)
        await client.publish(topic("DDATA", "pump"), data, qos=1)
        assert await stored(sql, child) == {"temperature": [20.5, 21.0]}
        await client.publish(topic("NDEATH"), message(bd_seq(3), sent=None), qos=1)
        await is_now(sql, child, "offline")
    await is_now(sql, edge.id, "offline")


async def test_history_is_stored_and_what_is_no_sparkplug_is_a_dead_letter(
    broker: Settings, edge: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    past = MS - 60_000
    old = TEMPERATURE | {"timestamp": past, "is_historical": True, "double_value": 1.5}
    async with connect(broker, edge) as client:
        await client.publish(topic("NBIRTH"), message(bd_seq(0), TEMPERATURE, seq=0), qos=1)
        await client.publish(topic("NDATA"), message(old, seq=1), qos=1)
        await client.publish(topic("NDATA"), b"\xff\xff", qos=1)
        await client.publish(topic("DDATA"), message(TEMPERATURE, seq=2), qos=1)
        await client.publish(topic("NDATA"), message(TEMPERATURE), qos=1)
        await client.publish(topic("DDATA", "pump"), message(TEMPERATURE, seq=300), qos=1)
    assert await stored(sql, edge.id) == {"temperature": [1.5, 20.5]}
    assert [code for code, _ in await dead(sql, edge.id)] == [
        "not_sparkplug",
        "invalid_topic",
        "invalid_sequence",
        "invalid_sequence",
    ]


async def test_a_node_speaks_for_itself_only(
    broker: Settings, edge: MadeDevice, connect: Connect, sql: Sql, tenant_id: UUID
) -> None:
    with pytest.raises(aiomqtt.MqttError):
        async with connect(broker, edge, timeout=2) as client:
            await client.publish("spBv1.0/plant/NBIRTH/edge-2", message(bd_seq(0), seq=0), qos=1)


async def test_a_node_is_told_that_its_host_is_there(
    broker: Settings, edge: MadeDevice, connect: Connect
) -> None:
    async with connect(broker, edge) as client:
        await client.subscribe("spBv1.0/STATE/scada", qos=1)
        async with asyncio.timeout(10):
            found = await anext(aiter(client.messages))
        assert isinstance(found.payload, bytes)
        assert json.loads(found.payload)["online"] is True
