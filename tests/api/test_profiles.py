"""Device profiles: what they say about metrics is checked, kept and told."""

from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from core import bus as channels
from tests.api.conftest import Person
from tests.support.waiting import eventually

CONFIGURATION: dict[str, Any] = {
    "metrics": {
        "t": {"unit": "degC", "range": [-40, 120], "max_rate": 2, "convert": {"from": "degF"}},
        "on": {"type": "boolean", "interval": 60},
    },
    "derived": {"p": "values.u * values.i"},
    "desired": {"interval": 5},
    "prediction": {"cycle_hours": 2.0},
}


async def test_a_configuration_is_answered_as_it_was_given(client: httpx.AsyncClient) -> None:
    made = await client.post(
        "/api/v1/device-profiles", json={"name": "pump", "configuration": CONFIGURATION}
    )
    assert made.status_code == 201, made.text
    assert made.json()["configuration"] == CONFIGURATION
    address = f"/api/v1/device-profiles/{made.json()['id']}"
    changed = await client.patch(address, json={"description": "A pump"})
    assert changed.json()["configuration"] == CONFIGURATION
    assert changed.json()["description"] == "A pump"
    emptied = await client.patch(address, json={"configuration": {}})
    assert emptied.json()["configuration"] == {}
    assert (await client.get(address)).json()["configuration"] == {}


@pytest.mark.parametrize(
    ("configuration", "pointer", "message"),
    [
        ({"metrics": {"t": {"range": [3, 1]}}}, "/metrics/t/range", "below the greatest"),
        ({"metrics": {"a/b": {"range": [1, "x"]}}}, "/metrics/a~1b/range/1", "must be a number"),
        ({"metrics": {"t": {"type": "text"}}}, "/metrics/t/type", "Input should be 'number'"),
        ({"metrics": {"t": {"colour": 1}}}, "/metrics/t/colour", "not permitted"),
        (
            {"metrics": {"t": {"unit": "m", "convert": {"from": "degF"}}}},
            "/metrics/t/convert",
            "do not measure the same",
        ),
        ({"derived": {"p": "values.u * "}}, "/derived/p", "at character 12"),
        ({"derived": {"p": "u * 2"}}, "/derived/p", "no variable `u`"),
        ({"x": "a\x00b"}, "", "U+0000"),
    ],
)
async def test_a_fault_is_refused_with_its_place(
    client: httpx.AsyncClient, configuration: dict[str, Any], pointer: str, message: str
) -> None:
    answer = await client.post(
        "/api/v1/device-profiles", json={"name": "pump", "configuration": configuration}
    )
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"/configuration{pointer}"
    assert message in error["message"]


async def test_brokers_are_told_of_changed_rules(
    client: httpx.AsyncClient, admin: Person, bus: Redis
) -> None:
    async with bus.pubsub() as pubsub:
        await pubsub.subscribe(channels.PROFILES_CHANGED)
        told: list[str] = []

        async def heard() -> bool:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                told.append(message["data"].decode())
            return bool(told)

        made = await client.post("/api/v1/device-profiles", json={"name": "pump"})
        await eventually(heard)
        address = f"/api/v1/device-profiles/{made.json()['id']}"
        told.clear()
        await client.patch(address, json={"description": "not a rule"})
        await client.patch(address, json={"configuration": CONFIGURATION})
        await eventually(heard)
    assert told == [str(admin.tenant_id)]
