"""Several broker processes: clients go from one to another, and nothing is forgotten or doubled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

import broker.instance
import broker.peers
from core import bus
from core.db.session import Database
from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings, metric
from tests.broker.ingest.test_triggers import HOT, measure, outbox, publish
from tests.broker.mqtt.client import CONNACK, Client
from tests.broker.raw import connect_packet, publish_packet, telemetry_topic
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually
from workers.stack.own import brokers

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Two: TypeAlias = tuple[Settings, Settings]
Another = Callable[[], Awaitable[MadeDevice]]


@pytest.fixture
async def two(postgres_server: Settings, valkey_server: Settings) -> AsyncIterator[Two]:
    """Two brokers at ports of their own, so that a test chooses."""
    async with (
        broker_running(broker_settings(postgres_server, processes=2)) as one,
        broker_running(broker_settings(postgres_server, processes=2)) as other,
    ):
        yield one, other


Enter = Callable[..., Awaitable[Client]]


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    """Returns a client `c` of a device, signed in; what is left at the end is closed."""
    async with AsyncExitStack() as stack:

        async def client(
            settings: Settings, device: MadeDevice, *, clean: bool = True, present: bool = False
        ) -> Client:
            made = await stack.enter_async_context(Client(settings))
            await made.send(connect_packet(str(device.id), device.key, client="c", clean=clean))
            assert await made.packet() == (CONNACK, bytes([present, 0]))
            return made

        yield client


async def status(sql: Sql, device: MadeDevice) -> str:
    """Return whether a device is online."""
    return await sql.fetchval("SELECT status FROM devices WHERE id = $1", device.id)


async def test_a_lasting_session_goes_along(
    two: Two, device: MadeDevice, sql: Sql, enter: Enter
) -> None:
    one, other = two
    commands = f"v1/devices/{device.id}/commands/+"
    first = await enter(one, device, clean=False)
    assert await first.subscribe((commands, 1)) == [1]
    second = await enter(other, device, clean=False, present=True)
    await first.closed()
    await sql.execute(
        "INSERT INTO device_commands (id, tenant_id, device_id, name, payload, status) "
        "SELECT $1, tenant_id, id, 'stop', '{}', 'pending' FROM devices WHERE id = $2",
        uuid4(),
        device.id,
    )
    valkey = bus.connect(one)
    await valkey.publish(bus.DEVICE_DOWN, str(device.id))
    await valkey.aclose()
    assert (await second.take()).topic == f"v1/devices/{device.id}/commands/stop"
    await second.send(b"\xa2" + bytes([4 + len(commands)]) + b"\0\2\0" + bytes([len(commands)]))
    await second.send(commands.encode())
    await second.expect(0xB0, 2)
    third = await enter(one, device, clean=False, present=True)
    await second.closed()
    await third.nothing()
    mine = "FROM mqtt_sessions WHERE device_id = $1"
    filters = await sql.fetchval(f"SELECT filters::text {mine}", device.id)
    assert filters == "{}", "what was dropped at the other process stays dropped"
    fourth = await enter(other, device)
    assert await sql.fetchval(f"SELECT count(*) {mine}", device.id) == 0
    await fourth.leave()


async def test_what_was_sent_to_one_is_committed_before_the_other_lets_in(
    two: Two, device: MadeDevice, sql: Sql, enter: Enter
) -> None:
    one, other = two
    first = await enter(one, device)
    async with sql.transaction():
        await sql.execute("LOCK TABLE telemetry IN ACCESS EXCLUSIVE MODE")
        await first.send(publish_packet(telemetry_topic(device), b'{"values": {"t": 1}}'))
        await first.nothing()  # it was read
        waiting = asyncio.ensure_future(enter(other, device))
        await first.closed()
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
    await waiting
    count = "SELECT count(*) FROM telemetry WHERE device_id = $1"
    assert await sql.fetchval(count, device.id) == 1


async def test_triggers_remember_at_the_other_process(
    two: Two, owner: Database, tenant_id: UUID, device: MadeDevice, sql: Sql, enter: Enter
) -> None:
    await publish(owner, tenant_id, HOT | {"hysteresis": 5})
    valkey = bus.connect(two[0])
    await valkey.publish(bus.TRIGGERS_CHANGED, str(tenant_id))
    await valkey.aclose()
    one, other = two

    async def watched() -> bool:
        return await metric(one, "iotlinker_trigger_evaluations_total") > 0

    async def judged(client: Client, second: list[int]) -> bool:
        await measure(client, device, (second[0], 50))
        second[0] += 1
        return await watched()

    first = await enter(one, device)
    clock = [0]
    await eventually(lambda: judged(first, clock))
    await measure(first, device, (1000, 101), (1001, 102))
    second = await enter(other, device)
    await measure(second, device, (1002, 103), (1003, 104))
    assert await metric(other, "iotlinker_trigger_evaluations_total") > 0
    assert len(await outbox(sql, tenant_id)) == 1, "it has fired and not been below since"
    await measure(second, device, (1004, 50))
    third = await enter(one, device)
    await measure(third, device, (1005, 105))
    assert len(await outbox(sql, tenant_id)) == 2


async def test_a_device_that_moved_stays_online(
    two: Two, device: MadeDevice, sql: Sql, enter: Enter
) -> None:
    one, other = two

    async def is_online() -> bool:
        return await status(sql, device) == "online"

    first = await enter(one, device)
    await eventually(is_online)
    holder = await sql.fetchval("SELECT broker_id FROM devices WHERE id = $1", device.id)
    second = await enter(other, device)
    await first.closed()

    async def moved() -> bool:
        row = await sql.fetchrow("SELECT status, broker_id FROM devices WHERE id = $1", device.id)
        assert row is not None
        return row["status"] == "online" and row["broker_id"] not in (None, holder)

    await eventually(moved)
    await second.leave()

    async def gone() -> bool:
        return await status(sql, device) == "offline"

    await eventually(gone)


async def test_only_what_a_dead_process_held_goes_offline(
    postgres_server: Settings,
    valkey_server: Settings,
    device: MadeDevice,
    another: Another,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
    enter: Enter,
) -> None:
    monkeypatch.setattr(broker.instance, "_PERIOD", 0.05)
    monkeypatch.setattr(broker.instance, "SILENT", 0.5)
    left, dead = await another(), uuid4()
    async with broker_running(broker_settings(postgres_server)) as one:
        await enter(one, device)

        async def is_online() -> bool:
            return await status(sql, device) == "online"

        await eventually(is_online)
        await sql.execute("INSERT INTO broker_instances (name, id) VALUES ('dead', $1)", dead)
        await sql.execute(
            "UPDATE devices SET status = 'online', broker_id = $1 WHERE id = $2", dead, left.id
        )
        async with broker_running(broker_settings(postgres_server)):
            assert await status(sql, device) == "online", "a start harms nobody"

            async def swept() -> bool:
                return await status(sql, left) == "offline"

            await eventually(swept)
            assert await status(sql, device) == "online"
    assert await sql.fetchval("SELECT count(*) FROM broker_instances") == 0


async def test_a_process_that_does_not_answer_is_not_waited_for(
    two: Two, device: MadeDevice, monkeypatch: pytest.MonkeyPatch, enter: Enter
) -> None:
    monkeypatch.setattr(broker.peers, "PATIENCE", 0.2)
    valkey = bus.connect(two[0])
    async with valkey.pubsub() as deaf:
        await deaf.subscribe(bus.BROKER_CLAIM)
        client = await enter(two[0], device)
        await client.leave()
    await valkey.aclose()


async def test_a_revoked_key_ends_its_connection_wherever_it_is(
    two: Two, device: MadeDevice, enter: Enter
) -> None:
    client = await enter(two[1], device)
    valkey = bus.connect(two[0])
    await valkey.publish(bus.DEVICE_DISCONNECT, str(device.id))
    await valkey.aclose()
    await client.closed()


async def test_connections_to_one_port_go_to_all(
    postgres_server: Settings, valkey_server: Settings, device: MadeDevice
) -> None:
    first = broker_settings(postgres_server, processes=2)
    async with broker_running(first) as one:
        second = broker_settings(postgres_server, processes=2, port=first.broker.port)
        async with broker_running(second) as other, AsyncExitStack() as clients:
            for number in range(64):
                client = await clients.enter_async_context(Client(one))
                assert await client.sign_in(device, client=f"c{number % 8}") == 0
            for settings in (one, other):
                assert await metric(settings, "iotlinker_connections_closed_total") > 0


def test_the_supervisor_starts_them_with_ports_of_their_own(postgres_server: Settings) -> None:
    settings = broker_settings(postgres_server, processes=3)
    services = brokers(settings)
    assert [service.name for service in services] == ["broker", "broker-2", "broker-3"]
    numbers = [port.number for service in services for port in service.ports]
    assert len(numbers) == len(set(numbers)) == 4
    assert services[2].environment["IOTLINKER_BROKER_METRICS_PORT"] == str(
        settings.broker.metrics_port + 20
    )
