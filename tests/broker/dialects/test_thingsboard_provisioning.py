"""Devices without credentials ask for some, by ThingsBoard's SDK."""

import asyncio
import json
from typing import Any
from uuid import UUID

import aiomqtt
import pytest
from tb_device_mqtt import TBDeviceMqttClient

from core.crypto import device_key_digest
from core.db.session import Database
from core.settings import Settings
from core.temporal.names import provisioning_id
from tests.broker.dialects.conftest import Sql, named, opened, stored
from tests.support.tenants import make_profile


@pytest.fixture
async def profile(owner: Database, tenant_id: UUID, sql: Sql) -> str:
    """The key of a profile that provisions devices; its secret is `secret`."""
    profile_id = await make_profile(owner, tenant_id, "sensor")
    key = f"key-{tenant_id}"
    await sql.execute(
        "INSERT INTO provisioning_keys (profile_id, tenant_id, key, secret_sha256) "
        "VALUES ($1, $2, $3, $4)",
        profile_id,
        tenant_id,
        key,
        device_key_digest("secret"),
    )
    return key


async def provision(broker: Settings, key: str, secret: str, **more: Any) -> Any:
    return await asyncio.to_thread(
        TBDeviceMqttClient.provision, "127.0.0.1", key, secret, port=broker.broker.port, **more
    )


async def test_a_device_gets_a_token_it_can_sign_in_with(
    broker: Settings, profile: str, sql: Sql, tenant_id: UUID
) -> None:
    answer = await provision(broker, profile, "secret", device_name="pump 1")
    assert (answer["status"], answer["credentialsType"]) == ("SUCCESS", "ACCESS_TOKEN")
    device_id = await named(sql, tenant_id, "pump 1")
    assert device_id is not None
    started = await sql.fetchval(
        "SELECT count(*) FROM trigger_outbox WHERE key = $1", provisioning_id(tenant_id, device_id)
    )
    assert started == 1
    async with opened(TBDeviceMqttClient, broker, answer["credentialsValue"]) as client:
        assert await asyncio.to_thread(client.send_telemetry({"a": 1}).get) == 0
    assert await stored(sql, device_id) == {"a": [1.0]}


def visitor(broker: Settings) -> aiomqtt.Client:
    """A client without credentials."""
    return aiomqtt.Client("127.0.0.1", broker.broker.port, username="provision", timeout=2)


async def ask(broker: Settings, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask as a plain client; return the answers."""
    answers: list[dict[str, Any]] = []
    async with visitor(broker) as client:
        await client.subscribe("/provision/response", qos=1)
        for request in requests:
            await client.publish("/provision/request", json.dumps(request), qos=1)
            async with asyncio.timeout(2):
                message = await anext(aiter(client.messages))
            assert isinstance(message.payload, bytes)
            answers.append(json.loads(message.payload))
    return answers


async def test_a_wrong_secret_a_taken_name_and_a_weak_token_are_refused(
    broker: Settings, profile: str, sql: Sql, tenant_id: UUID
) -> None:
    right = {"provisionDeviceKey": profile, "provisionDeviceSecret": "secret", "deviceName": "a"}
    answers = await ask(
        broker, right | {"provisionDeviceSecret": "wrong"}, right | {"token": "short"}, right
    )
    assert [answer["status"] for answer in answers] == ["NOT_FOUND", "FAILURE", "SUCCESS"]
    again = await ask(broker, right)
    assert again[0]["status"] == "FAILURE"
    assert await sql.fetchval("SELECT count(*) FROM devices WHERE tenant_id = $1", tenant_id) == 1


async def test_a_client_without_credentials_can_do_nothing_else(
    broker: Settings, profile: str
) -> None:
    client = visitor(broker)
    with pytest.raises(aiomqtt.MqttError):
        async with client:
            await client.publish("v1/devices/me/telemetry", '{"a": 1}', qos=1)


async def test_the_fourth_attempt_of_a_connection_ends_it(broker: Settings, profile: str) -> None:
    wrong = {"provisionDeviceKey": profile, "provisionDeviceSecret": "wrong"}
    with pytest.raises((aiomqtt.MqttError, TimeoutError)):
        await ask(broker, wrong, wrong, wrong, wrong)
