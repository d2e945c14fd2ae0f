"""ThingsBoard's SDK for devices, unmodified."""

import asyncio
import json
from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from tb_device_mqtt import TBDeviceMqttClient

from core.settings import Settings
from tests.broker.conftest import Connect
from tests.broker.dialects.conftest import (
    Open,
    Sql,
    answer_to,
    dead,
    desire,
    reported,
    send_command,
    stored,
)
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually


async def published(info: Any) -> None:
    """Wait for the acknowledgement of what was sent."""
    assert await asyncio.to_thread(info.get) == 0


async def test_telemetry_and_attributes_are_committed_when_they_are_acknowledged(
    device: MadeDevice, sign_in: Open, sql: Sql
) -> None:
    client = await sign_in(TBDeviceMqttClient, device)
    await published(client.send_telemetry({"temperature": 41.9, "on": True, "mode": "eco"}))
    assert await stored(sql, device.id) == {"temperature": [41.9], "on": [1.0]}
    timed = {"ts": 1_751_649_600_512, "values": {"temperature": 42}, "metadata": {"by": "x"}}
    await published(client.send_telemetry([timed, {"temperature": 43, "shape": {"x": 1}}]))
    assert (await stored(sql, device.id))["temperature"] == [42.0, 41.9, 43.0]
    await published(client.send_attributes({"sensorModel": "DHT-22", "nested": {"a": [1]}}))
    assert await reported(sql, device.id) == {
        "mode": "eco",
        "shape": {"x": 1},
        "sensorModel": "DHT-22",
        "nested": {"a": [1]},
    }


async def test_attributes_are_asked_for(
    device: MadeDevice, sign_in: Open, sql: Sql, bus: Redis, tenant_id: UUID
) -> None:
    await desire(sql, bus, tenant_id, device.id, target=21)
    client = await sign_in(TBDeviceMqttClient, device)
    client.send_attributes({"model": "x"})
    answers: list[Any] = []
    client.request_attributes(["model", "none"], ["target"], lambda found, _: answers.append(found))
    await eventually(lambda: answers)
    assert answers == [{"client": {"model": "x"}, "shared": {"target": 21}}]


async def test_changes_of_shared_attributes_are_told_as_they_happen(
    device: MadeDevice, sign_in: Open, sql: Sql, bus: Redis, tenant_id: UUID
) -> None:
    client = await sign_in(TBDeviceMqttClient, device)
    told: list[Any] = []
    client.subscribe_to_all_attributes(lambda found, _: told.append(found))
    await desire(sql, bus, tenant_id, device.id, target=21, mode="eco")
    await eventually(lambda: told == [{"target": 21, "mode": "eco"}])
    await desire(sql, bus, tenant_id, device.id, target=22)
    await eventually(lambda: told[1:] == [{"target": 22, "deleted": ["mode"]}])


async def test_a_command_is_a_call_and_its_answer_comes_back(
    device: MadeDevice, sign_in: Open, sql: Sql, bus: Redis, tenant_id: UUID
) -> None:
    client = await sign_in(TBDeviceMqttClient, device)
    calls: list[Any] = []

    def called(request_id: str, body: Any) -> None:
        calls.append(body)
        client.send_rpc_reply(request_id, {"done": body["params"]["to"]})

    client.set_server_side_rpc_request_handler(called)
    command_id = await send_command(sql, bus, tenant_id, device.id, "throttle", to=0.4)
    assert await answer_to(sql, command_id) == {"done": 0.4}
    assert calls == [{"method": "throttle", "params": {"to": 0.4}}]


async def test_calls_of_the_device_are_answered_or_kept_as_events(
    device: MadeDevice, sign_in: Open, sql: Sql
) -> None:
    client = await sign_in(TBDeviceMqttClient, device)
    answers: list[Any] = []

    def note(_: str, answer: Any, error: Any) -> None:
        answers.append(answer)

    client.send_rpc_call("getCurrentTime", {}, note)
    await eventually(lambda: answers)
    assert abs(answers[0] / 1000 - asyncio.get_running_loop().time()) > 0  # milliseconds, a number
    client.send_rpc_call("openTicket", {"why": "hot"}, note)
    await eventually(lambda: len(answers) == 2)
    assert "error" in answers[1]
    event = await sql.fetchrow(
        "SELECT name, data::text FROM device_events WHERE device_id = $1", device.id
    )
    assert event is not None
    assert (event["name"], json.loads(event["data"])) == ("openTicket", {"params": {"why": "hot"}})


async def test_a_claim_is_kept_and_firmware_is_politely_not_there(
    device: MadeDevice, sign_in: Open, sql: Sql
) -> None:
    client = await sign_in(TBDeviceMqttClient, device)
    await published(client.claim("secret", 60_000))
    row = await sql.fetchrow(
        "SELECT expires_at > now() AS open, claimed_at FROM device_claims WHERE device_id = $1",
        device.id,
    )
    assert row is not None
    assert row["open"]
    client.get_firmware_update()
    client.send_telemetry({"after": 1})

    async def went_on() -> bool:
        return "after" in await stored(sql, device.id)

    await eventually(went_on)


async def test_what_cannot_be_read_is_a_dead_letter_with_its_reason(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, device) as client:
        await client.publish("v1/devices/me/rpc/response/5", "{}", qos=1)
        await client.publish("v1/devices/me/rpc/request/5", "[]", qos=1)
        await client.publish("v1/devices/me/attributes/request/1", "no json", qos=1)
        await client.publish("v1/devices/me/claim", '{"durationMs": "x"}', qos=1)
    assert await dead(sql, device.id) == [
        ("unknown_command", ""),
        ("invalid_form", ""),
        ("not_json", ""),
        ("invalid_duration", "/durationMs"),
    ]
