"""Measurements reach the database, and an acknowledgement means that they have."""

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
from tests.broker.conftest import Connect
from tests.broker.raw import RawClient, publish_packet, telemetry_topic
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
NOW_MS = int(datetime.now(UTC).timestamp() * 1000)


async def stored(sql: Sql, device_id: UUID) -> list[tuple[datetime, dict[str, Any]]]:
    """Return a device's rows in order of time."""
    rows = await sql.fetch(
        """
        SELECT t.time, m.names, t.values FROM telemetry t JOIN metric_lists m ON m.id = t.metrics_id
        WHERE t.device_id = $1 ORDER BY t.time, m.id
        """,
        device_id,
    )
    return [(r["time"], dict(zip(r["names"], r["values"], strict=True))) for r in rows]


async def send(client: aiomqtt.Client, device: MadeDevice, payload: Any, qos: int = 1) -> None:
    """Publish telemetry; returns once acknowledged."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload)
    await client.publish(topics.telemetry(device.id), body, qos=qos, timeout=10)


@pytest.mark.parametrize(
    ("payload", "values"),
    [
        ({"values": {"a": 1.5, "b": 2}}, [{"a": 1.5, "b": 2.0}]),
        ({"a": 1.5}, [{"a": 1.5}]),
        ({"ts": NOW_MS, "a": 1.5}, [{"a": 1.5}]),
        ({"values": {"a": True, "b": False, "c": None}}, [{"a": 1.0, "b": 0.0, "c": None}]),
        ([{"ts": NOW_MS - 1, "values": {"a": 1}}, {"a": 2}], [{"a": 1.0}, {"a": 2.0}]),
        ({"values": {"a": 1, "mode": "eco"}}, [{"a": 1.0}]),
    ],
)
async def test_every_form_is_stored(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: Sql,
    payload: Any,
    values: list[dict[str, Any]],
) -> None:
    async with connect(broker, device) as client:
        await send(client, device, payload)
        assert [v for _, v in await stored(sql, device.id)] == values


async def test_times_are_kept_and_missing_ones_are_the_receipt_and_distinct(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, device) as client:
        before = datetime.now(UTC)
        await send(client, device, {"ts": "2024-05-01T10:00:00+02:00", "values": {"a": 1}})
        await send(client, device, {"ts": 1714557600500, "values": {"a": 2}})
        await asyncio.gather(*(send(client, device, {"values": {"a": 3}}) for _ in range(50)))
    rows = await stored(sql, device.id)
    assert rows[0][0] == datetime(2024, 5, 1, 8, tzinfo=UTC)
    assert rows[1][0] == datetime(2024, 5, 1, 10, 0, 0, 500_000, tzinfo=UTC)
    assert len({time for time, _ in rows[2:]}) == 50
    assert before <= rows[2][0] <= rows[-1][0] <= datetime.now(UTC)


async def test_strings_become_reported_attributes(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, device) as client:
        await send(client, device, {"mode": "eco", "old": "x"})
        await client.publish(topics.attributes(device.id), '{"old": null, "fw": {"v": [1]}}', qos=1)
    row = await sql.fetchrow(
        "SELECT reported, reported_version FROM device_attributes WHERE device_id = $1",
        device.id,
    )
    assert row is not None
    assert json.loads(row["reported"]) == {"mode": "eco", "fw": {"v": [1]}}
    assert row["reported_version"] == 2


async def test_events_are_stored_once(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    event = json.dumps({"name": "failure", "ts": NOW_MS, "data": {"code": 7}})
    async with connect(broker, device) as client:
        for _ in range(2):
            await client.publish(topics.events(device.id), event, qos=1)
    rows = await sql.fetch("SELECT name, data FROM device_events WHERE device_id=$1", device.id)
    assert [(r["name"], json.loads(r["data"])) for r in rows] == [("failure", {"code": 7})]


async def test_qos_0_and_qos_2_are_stored_too(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, device) as client:
        for qos in (0, 2):
            await send(client, device, {"q": qos}, qos=qos)

        async def both() -> bool:
            return len(await stored(sql, device.id)) == 2

        await eventually(both)


@pytest.mark.parametrize(
    ("payload", "code", "pointer"),
    [
        (b"hello", "not_json", ""),
        (b"", "not_json", ""),
        (b'{"values": {"a": NaN}}', "not_json", ""),
        (b"[" * 5000, "not_json", ""),
        (b'"text"', "invalid_form", ""),
        (b"[]", "empty", ""),
        (b'{"values": {}}', "empty", "/values"),
        (b'{"values": {"a": {"b": 1}}}', "unsupported_type", "/values/a"),
        (b'[{"a": 1}, {"x/y": [1]}]', "unsupported_type", "/1/x~1y"),
        (b'{"values": {"a": 1}, "unit": "C"}', "unknown_field", "/unit"),
        (b'{"ts": 1700000000, "values": {"a": 1}}', "time_out_of_range", "/ts"),
        (b'{"ts": 99999999999999, "a": 1}', "time_out_of_range", "/ts"),
        (b'{"ts": 1e300, "a": 1}', "time_out_of_range", "/ts"),
        (b'{"ts": "yesterday", "a": 1}', "invalid_time", "/ts"),
        (b'{"ts": true, "a": 1}', "invalid_time", "/ts"),
        (b'{"' + b"n" * 101 + b'": 1}', "invalid_name", "/" + "n" * 101),
        (b'{"a\\u0000b": 1}', "invalid_text", ""),
        (json.dumps({f"m{i}": i for i in range(1001)}).encode(), "too_many", ""),
        (b'{"a": 1' + b"0" * 400 + b"}", "out_of_range", "/a"),
    ],
)
async def test_a_refused_message_is_kept_with_the_reason_and_acknowledged(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: Sql,
    payload: bytes,
    code: str,
    pointer: str,
) -> None:
    async with connect(broker, device) as client:
        await client.subscribe(f"v1/devices/{device.id}/errors")
        await send(client, device, payload)
        await send(client, device, {"still": 1})
        told = json.loads(bytes((await anext(aiter(client.messages))).payload))
    row = await sql.fetchrow("SELECT * FROM telemetry_dead_letters WHERE device_id = $1", device.id)
    assert row is not None
    assert (row["code"], row["pointer"], row["payload"]) == (code, pointer, payload)
    assert (told["code"], told["pointer"]) == (code, pointer)
    assert row["message"]
    assert [v for _, v in await stored(sql, device.id)] == [{"still": 1.0}]


async def test_comes_only_after_the_commit(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, device) as client:
        await send(client, device, {"a": 0})
        async with sql.transaction():
            await sql.execute("LOCK TABLE telemetry IN ACCESS EXCLUSIVE MODE")
            waiting = asyncio.create_task(send(client, device, {"a": 1}))

            async def blocked() -> bool:
                return bool(await sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

            await eventually(blocked)
            assert not waiting.done()
        await waiting
    assert [v["a"] for _, v in await stored(sql, device.id)] == [0.0, 1.0]


async def test_acknowledgements_keep_the_order_of_the_messages_when_a_later_batch_commits_first(
    broker: Settings, device: MadeDevice, sql: Sql, postgres_server: Settings
) -> None:
    locker = await asyncpg.connect(postgres_server.admin_database_url, timeout=10)
    async with RawClient(broker) as client:
        await client.sign_in(device)
        async with locker.transaction():
            await locker.execute("LOCK TABLE telemetry_dead_letters IN ACCESS EXCLUSIVE MODE")
            await client.send(publish_packet(telemetry_topic(device), b"not json", packet_id=1))

            async def blocked() -> bool:
                return bool(await sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

            await eventually(blocked)
            await client.send(publish_packet(telemetry_topic(device), b'{"a": 1}', packet_id=2))

            async def committed() -> bool:
                return len(await stored(sql, device.id)) == 1

            await eventually(committed)
            await client.send(b"\xc0\x00")
            assert await client.packet() == (0xD0, b"")  # the PINGRESP, and no PUBACK before it
        assert [await client.packet() for _ in range(2)] == [(0x40, b"\0\1"), (0x40, b"\0\2")]
    await locker.close(timeout=10)


async def test_rows_of_a_client_that_left_are_committed(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with sql.transaction():
        await sql.execute("LOCK TABLE telemetry IN ACCESS EXCLUSIVE MODE")
        async with connect(broker, device) as client:
            await send(client, device, {"a": 1}, qos=0)

    async def there() -> bool:
        return len(await stored(sql, device.id)) == 1

    await eventually(there)


async def test_a_message_delivered_twice_is_stored_once(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, device) as client:
        batch = [{"ts": NOW_MS + i, "values": {"a": i}} for i in range(20)]
        await asyncio.gather(*(send(client, device, message) for message in batch))
        again = [*batch, *batch, {"ts": NOW_MS + 99, "values": {"a": 99}}]
        await asyncio.gather(*(send(client, device, message) for message in again))
    assert len(await stored(sql, device.id)) == 21


async def test_a_database_error_delays_and_loses_nothing(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, device) as client:
        await send(client, device, {"a": 0})
        ended = await sql.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'iotlinker-broker'"
        )
        assert ended
        await asyncio.gather(*(send(client, device, {"a": i}) for i in range(1, 30)))
    assert [v["a"] for _, v in await stored(sql, device.id)] == list(range(30))


async def test_a_row_that_the_database_refuses_becomes_a_dead_letter_and_the_others_are_stored(
    broker: Settings, device: MadeDevice, sql: Sql
) -> None:
    await sql.execute(
        "ALTER TABLE telemetry ADD CONSTRAINT poison CHECK (values[1] <> 666) NOT VALID"
    )
    try:
        async with RawClient(broker) as client:
            await client.sign_in(device)
            values = [1, 2, 666, 3, 4, 666, 5]
            await client.send(
                *(
                    publish_packet(
                        telemetry_topic(device),
                        json.dumps({"ts": NOW_MS + i, "values": {"a": value}}).encode(),
                        packet_id=i + 1,
                    )
                    for i, value in enumerate(values)
                )
            )
            for _ in values:
                assert (await client.packet())[0] == 0x40
    finally:
        await sql.execute("ALTER TABLE telemetry DROP CONSTRAINT poison")
    assert [v["a"] for _, v in await stored(sql, device.id)] == [1, 2, 3, 4, 5]
    letters = await sql.fetch(
        "SELECT code FROM telemetry_dead_letters WHERE device_id = $1", device.id
    )
    assert [row["code"] for row in letters] == ["not_storable"] * 2


async def test_a_deleted_device_holds_nobody_up(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: Sql,
    another: Callable[[], Awaitable[MadeDevice]],
) -> None:
    gone = await another()
    async with connect(broker, device) as client, connect(broker, gone) as ghost:
        await sql.execute("DELETE FROM devices WHERE id = $1", gone.id)
        await asyncio.gather(
            send(ghost, gone, b"not json"),
            send(ghost, gone, {"s": "text"}),
            send(client, device, {"a": 1}),
        )
    assert len(await stored(sql, device.id)) == 1


async def test_old_measurements_get_a_partition_of_their_day(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    day = datetime.now(UTC) - timedelta(days=200)
    async with connect(broker, device) as client:
        await send(client, device, {"ts": day.isoformat(), "values": {"a": 1}})
    place = await sql.fetchval(
        "SELECT tableoid::regclass::text FROM telemetry WHERE device_id = $1", device.id
    )
    assert place == f"telemetry_p{day:%Y%m%d}"


async def test_the_hour_of_a_late_measurement_is_noted_for_its_roll_up(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    late = datetime.now(UTC) - timedelta(hours=3)
    async with connect(broker, device) as client:
        await send(client, device, {"values": {"a": 1}})
        await send(client, device, {"ts": late.isoformat(), "values": {"a": 1}})
        await send(client, device, {"values": {"a": 1}})
    hours = await sql.fetch(
        "SELECT hour, tenant_id = (SELECT tenant_id FROM devices WHERE id = $1) AS own "
        "FROM rollup_stale WHERE device_id = $1",
        device.id,
    )
    assert [tuple(row) for row in hours] == [
        (late.replace(minute=0, second=0, microsecond=0), True)
    ]


async def test_the_latest_values_are_the_newest_by_time(
    broker: Settings, device: MadeDevice, connect: Connect, sql: Sql
) -> None:
    async with connect(broker, device) as client:
        await send(client, device, {"ts": NOW_MS, "values": {"a": 1}})
        await send(client, device, {"ts": NOW_MS - 60_000, "values": {"a": 2}})

        async def latest() -> bool:
            rows = await sql.fetch(
                "SELECT values FROM telemetry_latest WHERE device_id = $1", device.id
            )
            return [row["values"] for row in rows] == [[1.0]]

        await eventually(latest)


async def test_committed_measurements_are_published(
    broker: Settings, device: MadeDevice, connect: Connect, bus: Redis
) -> None:
    async with bus.pubsub() as pubsub, connect(broker, device) as client:
        await pubsub.subscribe(channels.telemetry(device.id))
        await send(client, device, {"ts": NOW_MS, "values": {"a": 1.5, "b": None}})
        got: list[Any] = []

        async def told() -> bool:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                got.extend(json.loads(message["data"]))
            return bool(got)

        await eventually(told)
    (point,) = got
    assert point["device_id"] == str(device.id)
    assert point["metrics"] == {"a": 1.5, "b": None}
    assert datetime.fromisoformat(point["timestamp"]).timestamp() * 1000 == NOW_MS
