"""Clients that speak MQTT 5 are served as those of MQTT 3.1.1 are."""

import asyncio
from typing import Any

import aiomqtt
import asyncpg
import pytest

from core import topics
from core.settings import Settings
from tests.broker.conftest import Connect
from tests.support.tenants import MadeDevice

V5 = aiomqtt.ProtocolVersion.V5


async def test_every_quality_of_service_is_stored_when_it_is_acknowledged(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    async with connect(broker, device, protocol=V5) as client:
        for qos in (0, 1, 2):
            await client.publish(topics.telemetry(device.id), f'{{"a": {qos}}}', qos=qos)
    values = await sql.fetch("SELECT values[1] AS v FROM telemetry WHERE device_id = $1", device.id)
    assert sorted(row["v"] for row in values) == [0.0, 1.0, 2.0]


async def test_a_retained_desired_state_is_heard_and_filters_of_others_are_not(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: "asyncpg.Connection[asyncpg.Record]",
    tenant_id: Any,
) -> None:
    await sql.execute(
        "INSERT INTO device_attributes (device_id, tenant_id, desired, desired_version) "
        "VALUES ($1, $2, '{\"a\": 1}', 1)",
        device.id,
        tenant_id,
    )
    async with connect(broker, device, protocol=V5) as client:
        await client.subscribe(topics.desired(device.id), qos=1)
        async with asyncio.timeout(10):
            message = await anext(aiter(client.messages))
        assert message.payload == b'{"a": 1}'
        await client.unsubscribe(topics.desired(device.id))
        codes = await client.subscribe("v1/devices/other/telemetry", qos=1)
        assert [str(code) for code in codes] == ["Not authorized"]


async def test_wrong_credentials_have_their_reason(
    broker: Settings, device: MadeDevice, connect: Connect
) -> None:
    with pytest.raises(aiomqtt.MqttError, match="Bad user name or password"):
        async with connect(broker, device, protocol=V5, password="wrong"):
            pass
