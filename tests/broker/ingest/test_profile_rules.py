"""What a profile says about metrics holds for every message, from the broker to the readers."""

import json
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis

from core import bus as channels
from core import topics
from core.db.session import Database
from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings, metric
from tests.broker.ingest.test_triggers import HOT, measure, outbox, publish
from tests.broker.raw import RawClient, publish_packet, telemetry_topic
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
NOW_MS = int(datetime.now(UTC).timestamp() * 1000) - 20_000


async def configure(sql: Sql, device: MadeDevice, configuration: dict[str, Any]) -> None:
    """Give the device's profile a configuration."""
    await sql.execute(
        "UPDATE device_profiles SET configuration = $2::jsonb "
        "WHERE id = (SELECT profile_id FROM devices WHERE id = $1)",
        device.id,
        json.dumps(configuration),
    )


async def send(client: RawClient, device: MadeDevice, *payloads: Any) -> None:
    """Send messages one by one; returns once all are acknowledged."""
    for payload in payloads:
        body = json.dumps(payload).encode()
        await client.send(publish_packet(telemetry_topic(device), body))
        await client.packet()


async def stored(sql: Sql, device_id: UUID) -> list[tuple[dict[str, Any], list[int] | None]]:
    """Return a device's values and scores in order of time."""
    rows = await sql.fetch(
        """
        SELECT m.names, t.values, t.quality
        FROM telemetry t JOIN metric_lists m ON m.id = t.metrics_id
        WHERE t.device_id = $1 ORDER BY t.time, m.id
        """,
        device_id,
    )
    return [(dict(zip(r["names"], r["values"], strict=True)), r["quality"]) for r in rows]


def at(second: int, **values: Any) -> dict[str, Any]:
    """Return a message of a second."""
    return {"ts": NOW_MS + second * 1000, "values": values}


async def test_bad_values_are_stored_with_their_scores(
    postgres_server: Settings, valkey_server: Settings, device: MadeDevice, sql: Sql
) -> None:
    await configure(sql, device, {"metrics": {"t": {"range": [0, 100]}, "n": {"type": "integer"}}})
    async with (
        broker_running(broker_settings(postgres_server)) as broker,
        RawClient(broker) as client,
    ):
        await client.sign_in(device)
        await send(
            client,
            device,
            at(0, t=50, n=1),
            at(1, t=101, n=1.5),
            at(2, t=50, n=None),  # the long way
            at(3, t=200, n=None),
            at(4, t=100),
            at(5, t=-1),
        )
        assert await stored(sql, device.id) == [
            ({"t": 50.0, "n": 1.0}, None),
            ({"t": 101.0, "n": 1.5}, [40, 20]),
            ({"t": 50.0, "n": None}, None),
            ({"t": 200.0, "n": None}, [40, 100]),
            ({"t": 100.0}, None),
            ({"t": -1.0}, [40]),
        ]
        assert await metric(broker, "iotlinker_doubtful_messages_total") == 3
        view = "SELECT quality_score FROM device_data WHERE device_id = $1 ORDER BY time, value"
        scores = [r[0] for r in await sql.fetch(view, device.id)]
        assert scores == [100, 100, 20, 40, 100, 100, 40, 100, 100, 40]


async def test_values_are_converted_and_others_derived_from_them(
    postgres_server: Settings, valkey_server: Settings, device: MadeDevice, sql: Sql
) -> None:
    await sql.execute(
        "UPDATE devices SET metadata = '{\"phases\": 3}', tags = '{hot,new}', site = 'plant-1' "
        "WHERE id = $1",
        device.id,
    )
    await configure(
        sql,
        device,
        {
            "metrics": {
                "t": {"unit": "degC", "convert": {"from": "degF"}},
                "p": {"range": [0, 1000]},
            },
            "derived": {
                "p": "values.u * values.i * device.metadata.phases",
                "r": "values.u / values.i",
                "known": "device.site == 'plant-1' && 'hot' in device.tags && values.t > 0",
            },
        },
    )
    async with (
        broker_running(broker_settings(postgres_server)) as broker,
        RawClient(broker) as client,
    ):
        await client.sign_in(device)
        await send(
            client,
            device,
            *(at(s, t=212) for s in (0, 1)),
            *(at(s, u=230, i=1) for s in (2, 3)),
            *(at(s, u=230, i=0) for s in (4, 5)),  # a division by zero
            *(at(s, u=230, i=None) for s in (6, 7)),
            *(at(s, u=230, i=2) for s in (8, 9)),
            at(10, u=230, i=2, p=7),
        )
        rows = [(values, quality) for values, quality in await stored(sql, device.id)]
        assert rows[0][0]["t"] == pytest.approx(100)
        assert rows[0][0]["known"] == 1.0
        assert rows[1] == rows[0]
        for second, row in {
            2: ({"u": 230.0, "i": 1.0, "p": 690.0, "r": 230.0}, None),
            4: ({"u": 230.0, "i": 0.0, "p": 0.0, "r": None}, [100, 100, 100, 0]),
            6: ({"u": 230.0, "i": None, "p": None, "r": None}, None),
            8: ({"u": 230.0, "i": 2.0, "p": 1380.0, "r": 115.0}, [100, 100, 40, 100]),
        }.items():
            assert rows[second] == rows[second + 1] == row
        assert rows[10] == ({"u": 230.0, "i": 2.0, "p": 7.0, "r": 115.0}, None)
        assert await metric(broker, "iotlinker_derive_errors_total") == 2


async def test_subscribers_are_told_scores_below_100(
    postgres_server: Settings,
    valkey_server: Settings,
    device: MadeDevice,
    sql: Sql,
    bus: Redis,
) -> None:
    await configure(sql, device, {"metrics": {"t": {"range": [0, 100]}}})
    async with (
        broker_running(broker_settings(postgres_server)) as broker,
        bus.pubsub() as pubsub,
        RawClient(broker) as client,
    ):
        await pubsub.subscribe(channels.telemetry(device.id))
        await client.sign_in(device)
        await send(client, device, at(0, t=50, u=1), at(1, t=500, u=1))
        got: list[Any] = []

        async def told() -> bool:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                got.extend(json.loads(message["data"]))
            return len(got) == 2

        await eventually(told)
    assert "quality" not in got[0]
    assert got[1]["quality"] == {"t": 40}


async def test_a_trigger_may_want_a_least_quality_and_see_the_score(
    postgres_server: Settings,
    valkey_server: Settings,
    owner: Database,
    tenant_id: UUID,
    device: MadeDevice,
    sql: Sql,
) -> None:
    await configure(sql, device, {"metrics": {"t": {"range": [0, 200]}}})
    doubtful = HOT | {"when": {"expr": "quality < 50.0"}}
    await publish(owner, tenant_id, HOT | {"min_quality": 50}, doubtful)
    async with (
        broker_running(broker_settings(postgres_server)) as broker,
        RawClient(broker) as client,
    ):
        await client.sign_in(device)
        await measure(client, device, (0, 50), (1, 500), (2, 50), (3, 150))
        rows = await outbox(sql, tenant_id)
    values = sorted(row["payload"]["trigger"]["value"] for row in rows)
    assert values == [150.0, 500.0]


async def test_changed_rules_and_devices_are_followed_when_told(
    postgres_server: Settings,
    valkey_server: Settings,
    device: MadeDevice,
    tenant_id: UUID,
    sql: Sql,
    bus: Redis,
) -> None:
    rules = {"metrics": {"t": {"range": [0, 10]}}}
    async with (
        broker_running(broker_settings(postgres_server)) as broker,
        RawClient(broker) as client,
    ):
        await client.sign_in(device)
        await send(client, device, {"t": 50})
        assert await stored(sql, device.id) == [({"t": 50.0}, None)]

        async def newest(wanted: tuple[dict[str, Any], list[int] | None]) -> None:
            async def there() -> bool:
                await send(client, device, {"t": 50})
                return (await stored(sql, device.id))[-1] == wanted

            await eventually(there)

        await configure(sql, device, rules)
        await bus.publish(channels.PROFILES_CHANGED, str(tenant_id))
        await newest(({"t": 50.0}, [40]))
        await configure(sql, device, {"derived": {"x": "device.site == 'a' ? 1 : 0"}})
        await bus.publish(channels.PROFILES_CHANGED, str(tenant_id))
        await newest(({"t": 50.0, "x": 0.0}, None))
        await sql.execute("UPDATE devices SET site = 'a' WHERE id = $1", device.id)
        await bus.publish(channels.DEVICE_CHANGED, str(device.id))
        await newest(({"t": 50.0, "x": 1.0}, None))
        await configure(sql, device, {})
        await bus.publish(channels.PROFILES_CHANGED, str(tenant_id))
        await newest(({"t": 50.0}, None))


async def test_malformed_rules_are_skipped(
    postgres_server: Settings, valkey_server: Settings, device: MadeDevice, sql: Sql
) -> None:
    await configure(sql, device, {"metrics": {"t": {"range": "wide"}}, "derived": 7})
    async with (
        broker_running(broker_settings(postgres_server)) as broker,
        RawClient(broker) as client,
    ):
        await client.sign_in(device)
        await send(client, device, {"t": 50}, {"t": 51})
        assert [quality for _, quality in await stored(sql, device.id)] == [None, None]


async def test_a_twin_that_would_grow_too_large_stays_and_the_device_is_told(
    broker: Settings, device: MadeDevice, sql: Sql
) -> None:
    async def report(client: RawClient, patch: dict[str, Any]) -> None:
        body = json.dumps(patch).encode()
        await client.send(publish_packet(topics.attributes(device.id), body))
        await client.packet()

    async with RawClient(broker) as client:
        await client.sign_in(device)
        await report(client, {"a": "x" * 40_000, "fw": 1})
        await report(client, {"b": "y" * 40_000})
        await report(client, {"c": "z" * 70_000})
        await report(client, {"a": None, "b": "y" * 40_000, "fw": 2})
    row = await sql.fetchrow(
        "SELECT reported, reported_version FROM device_attributes WHERE device_id = $1", device.id
    )
    assert row is not None
    assert json.loads(row["reported"]) == {"b": "y" * 40_000, "fw": 2}
    assert row["reported_version"] == 2
    letters = await sql.fetch(
        "SELECT code, topic, payload FROM telemetry_dead_letters WHERE device_id = $1 "
        "ORDER BY received_at",
        device.id,
    )
    assert [letter["code"] for letter in letters] == ["twin_too_large"] * 2
    assert json.loads(letters[0]["payload"]) == {"b": "y" * 40_000}
    assert letters[0]["topic"] == topics.attributes(device.id)
