"""Through another's broker nothing acknowledged is lost, whoever is killed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from core import bus as channels
from core import topics
from core.db.session import Database
from tests.broker.external.conftest import Other, Publisher, StartIngest, client, telemetry
from tests.broker.ingest.test_triggers import HOT, outbox, publish
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Another: TypeAlias = Callable[[], Awaitable[MadeDevice]]
START = int(datetime.now(UTC).timestamp() * 1000) - 3_600_000


async def stored(sql: Sql, devices: list[UUID]) -> int:
    return await sql.fetchval(
        "SELECT count(*) FROM telemetry WHERE device_id = ANY($1::uuid[])", devices
    )


async def send(publisher: Publisher, devices: list[UUID], first: int, count: int) -> None:
    """Send messages round the devices; returns once the broker has acknowledged all."""

    async def one(number: int) -> None:
        device = devices[number % len(devices)]
        await publisher.send(*telemetry(device, START + number, number))

    for start in range(first, first + count, 100):
        await asyncio.gather(*(one(n) for n in range(start, min(start + 100, first + count))))


@pytest.mark.slow
async def test_what_was_acknowledged_is_stored_once_though_ingest_is_killed(
    other: Other, start_ingest: StartIngest, device: MadeDevice, another: Another, sql: Sql
) -> None:
    devices = [device.id, (await another()).id, (await another()).id]
    first = await start_ingest()
    async with client(other) as publisher:
        sending = asyncio.create_task(send(publisher, devices, 0, 6000))

        async def under_way() -> bool:
            return await stored(sql, devices) > 500

        await eventually(under_way, timeout=20)
        await first.kill()
        assert not sending.done()
        second = await start_ingest()
        await sending
        await eventually(lambda: _all(sql, devices, 6000), timeout=30)
        # The same once more: a repeated delivery is stored once.
        await send(publisher, devices, 5900, 100)

        async def again() -> bool:
            return await second.metric("iotlinker_duplicate_rows_total") >= 100

        await eventually(again)
    assert await stored(sql, devices) == 6000
    values = await sql.fetch(
        "SELECT values[1] AS v FROM telemetry WHERE device_id = ANY($1::uuid[])", devices
    )
    assert {row["v"] for row in values} == set(range(6000))
    await second.stop()


async def _all(sql: Sql, devices: list[UUID], count: int) -> bool:
    return await stored(sql, devices) >= count


@pytest.mark.slow
async def test_what_was_not_committed_when_ingest_was_killed_comes_again(
    other: Other, start_ingest: StartIngest, device: MadeDevice, sql: Sql
) -> None:
    ingest = await start_ingest()
    async with client(other) as publisher:
        await send(publisher, [device.id], 0, 500)
        await sql.execute("ALTER ROLE iotlinker_ingest NOLOGIN")
        try:
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'iotlinker-%' AND usename = 'iotlinker_ingest'"
            )
            await send(publisher, [device.id], 500, 1500)

            async def noticed() -> bool:
                return await ingest.health() != "ok"

            await eventually(noticed)
            # What it has received by now cannot be committed, so it must not be acknowledged.
            await ingest.kill()
        finally:
            await sql.execute("ALTER ROLE iotlinker_ingest LOGIN")
        await start_ingest()
        await eventually(lambda: _all(sql, [device.id], 2000), timeout=40)
    assert await stored(sql, [device.id]) == 2000


@pytest.mark.slow
async def test_processes_side_by_side_share_the_load_or_stand_by_for_each_other(
    other: Other, start_ingest: StartIngest, device: MadeDevice, sql: Sql
) -> None:
    first = await start_ingest()
    second = await start_ingest(ready=other.shared)
    if not other.shared:

        async def stands_by() -> bool:
            return "stands by" in await second.health()

        await eventually(stands_by, timeout=20)
    async with client(other) as publisher:
        await send(publisher, [device.id], 0, 1000)
        await eventually(lambda: _all(sql, [device.id], 1000), timeout=20)
        done = [await each.metric("iotlinker_messages_committed_total") for each in (first, second)]
        assert sum(done) == 1000
        if other.shared:
            assert min(done) > 100
        else:  # the broker knows no shared subscriptions
            assert done[1] == 0
            assert "stands by" in await second.health()
        await first.kill()
        await send(publisher, [device.id], 1000, 500)
        if other.shared:
            # Mosquitto keeps the share of a process that is away for when it comes back.
            await start_ingest()
        await eventually(lambda: _all(sql, [device.id], 1500), timeout=20)
    assert await stored(sql, [device.id]) == 1500


async def test_a_command_reaches_the_device_and_its_answer_returns(
    other: Other,
    start_ingest: StartIngest,
    device: MadeDevice,
    sql: Sql,
    bus: Redis,
    tenant_id: UUID,
) -> None:
    await start_ingest()
    async with client(other, topics.command(device.id, "+")) as of_device:
        # The subscription is there once the broker brings back what is sent to it.
        probe = topics.command(device.id, "probe")

        async def subscribed() -> bool:
            await of_device.send(probe, {})
            return not of_device.received.empty()

        await eventually(subscribed)
        await asyncio.sleep(0)
        command_id = await sql.fetchval(
            "INSERT INTO device_commands (tenant_id, device_id, name, payload, expires_at) "
            "VALUES ($1, $2, 'reboot', '{\"to\": 0.4}', $3) RETURNING id",
            tenant_id,
            device.id,
            datetime.now(UTC) + timedelta(minutes=1),
        )
        await bus.publish(channels.DEVICE_DOWN, str(device.id))
        topic, document = await of_device.next()
        while topic == probe:
            topic, document = await of_device.next()
        assert topic == topics.command(device.id, "reboot")
        assert document == {"id": str(command_id), "payload": {"to": 0.4}}

        async def status(wanted: str) -> bool:
            found = await sql.fetchval(
                "SELECT status FROM device_commands WHERE id = $1", command_id
            )
            return found == wanted

        await eventually(lambda: status("sent"))
        await of_device.send(
            topics.command_response(device.id, "reboot"),
            {"id": str(command_id), "response": {"done": True}},
        )
        await eventually(lambda: status("answered"))


async def test_a_desired_state_waits_at_the_broker_as_a_retained_message(
    other: Other,
    start_ingest: StartIngest,
    device: MadeDevice,
    sql: Sql,
    bus: Redis,
    tenant_id: UUID,
) -> None:
    await start_ingest()
    for version in (1, 2):
        await sql.execute(
            "INSERT INTO device_attributes (device_id, tenant_id, desired, desired_version) "
            "VALUES ($1, $2, $3, $4) ON CONFLICT (device_id) DO UPDATE "
            "SET desired = excluded.desired, desired_version = excluded.desired_version",
            device.id,
            tenant_id,
            json.dumps({"v": version}),
            version,
        )
        await bus.publish(channels.DEVICE_DOWN, str(device.id))

        async def published(wanted: int = version) -> bool:
            return (
                await sql.fetchval(
                    "SELECT external_version FROM device_attributes WHERE device_id = $1",
                    device.id,
                )
                == wanted
            )

        await eventually(published)
    async with client(other, topics.desired(device.id)) as of_device:
        assert await of_device.next() == (topics.desired(device.id), {"v": 2})


@pytest.mark.slow
async def test_firings_are_neither_lost_nor_doubled_though_processes_share_and_die(
    other: Other,
    start_ingest: StartIngest,
    device: MadeDevice,
    sql: Sql,
    owner: Database,
    tenant_id: UUID,
) -> None:
    await publish(owner, tenant_id, HOT)
    first = await start_ingest()
    if other.shared:
        await start_ingest()
    # Every second message ends the alarm, so whoever judges out of order loses firings.
    expected = {f":t0:{device.id}:{START + number}" for number in range(0, 2000, 2)}
    async with client(other) as publisher:
        for start in range(0, 2000, 50):
            if start == 1000:
                await first.kill()  # the one that judges
                await start_ingest()
            for number in range(start, start + 50):
                topic, document = telemetry(
                    device.id, START + number, 150 if number % 2 == 0 else 50
                )
                await publisher.send(topic, document)

        async def fired() -> bool:
            return len(await outbox(sql, tenant_id)) >= len(expected)

        await eventually(fired, timeout=30)
    rows = await outbox(sql, tenant_id)
    assert len(rows) == len(expected)
    assert all(any(row["key"].endswith(end) for row in rows) for end in list(expected)[:20])
    await eventually(lambda: _all(sql, [device.id], 2000), timeout=20)


async def test_a_device_is_online_by_its_messages_and_offline_by_its_silence(
    other: Other, start_ingest: StartIngest, device: MadeDevice, sql: Sql
) -> None:
    await start_ingest(INGEST_OFFLINE_AFTER=2)

    async def status(wanted: str) -> bool:
        found = await sql.fetchval("SELECT status FROM devices WHERE id = $1", device.id)
        return found == wanted

    async with client(other) as publisher:
        await publisher.send(*telemetry(device.id, START, 1))
        await eventually(lambda: status("online"))
        await eventually(lambda: status("offline"), timeout=15)


async def test_what_is_nobodys_is_counted_and_holds_up_nothing(
    other: Other, start_ingest: StartIngest, device: MadeDevice, sql: Sql
) -> None:
    ingest = await start_ingest()
    async with client(other) as publisher:
        await publisher.send(*telemetry(uuid4(), START, 1))
        await publisher.send("v1/devices/me/telemetry", {"t": 1})
        await publisher.send(f"v1/devices/{device.id}/telemetry", ["no", "telemetry"])
        await publisher.send(*telemetry(device.id, START, 7))
        await eventually(lambda: _all(sql, [device.id], 1))

    async def counted() -> bool:
        return await ingest.metric("iotlinker_dead_letters_total") == 3

    await eventually(counted)
    letters = await sql.fetch(
        "SELECT code FROM telemetry_dead_letters WHERE device_id = $1", device.id
    )
    assert [row["code"] for row in letters] == ["invalid_form"]
