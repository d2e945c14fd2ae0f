"""Nothing acknowledged is missing after a part was stopped, killed or had no space left."""

import asyncio
import signal
from collections.abc import Callable

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from core import bus as channels
from tests.broker.outages.conftest import Devices, Disk, StartLoad
from tests.broker.raw import RawClient, subscribe_packet
from tests.support.data_path import DataPath, Stored, stored
from tests.support.persistent import PersistentLoad
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

_GROWTH = 4 * 1024 * 1024
"""Bytes by which a broker that reads nothing may grow in two seconds, for its own bookkeeping."""


async def flows(load: PersistentLoad, more: int = 1_000) -> None:
    """Wait until messages are acknowledged that were sent after this call."""
    before = load.sent
    await eventually(lambda: load.acknowledged >= before + more, timeout=60)


async def stands(count: Callable[[], int]) -> int:
    """Wait until a count has not changed for half a second; return it."""
    before = -1
    while before != count():
        before = count()
        await asyncio.sleep(0.5)
    return before


async def ends(path: DataPath, load: PersistentLoad) -> None:
    """Stop the load; all of it was acknowledged, and is stored once as it was sent."""
    await asyncio.to_thread(load.stop, 60.0)
    assert load.faults == []
    assert load.acknowledged == load.sent
    assert await stored(path.settings, load) == Stored(load.sent, 0, 0, 0)


async def test_a_postgresql_that_hangs_slows_devices_down_and_costs_neither_memory_nor_messages(
    path: DataPath, load: StartLoad
) -> None:
    running = load(window=45_000)
    await flows(running)
    broker = psutil.Process(path.pid("broker"))
    path.signal("postgres", signal.SIGSTOP)
    try:
        await stands(lambda: running.acknowledged)
        running.rate = None
        await eventually(lambda: running.held_up)
        taken, memory = await stands(lambda: running.written), broker.memory_info().rss
        await asyncio.sleep(1)
        assert running.held_up
        assert running.written == taken
        assert broker.memory_info().rss - memory < _GROWTH
    finally:
        path.signal("postgres", signal.SIGCONT)
    running.rate = 1_000.0
    await flows(running)
    assert broker.pid == path.pid("broker")
    await ends(path, running)


async def test_a_postgresql_that_is_told_to_stop_goes_on_for_who_is_connected_until_it_must(
    path: DataPath, load: StartLoad
) -> None:
    running = load()
    await flows(running)
    restarts = path.part("postgres").restarts
    path.signal("postgres", signal.SIGTERM)  # "smart": no new sessions
    await flows(running)
    path.signal("postgres", signal.SIGINT)  # "fast": ends sessions, as the supervisor asks
    await path.restarted("postgres", restarts)
    await flows(running)
    await ends(path, running)
    assert running.connections == len(running.senders)  # no device lost its connection


@pytest.mark.parametrize("victim", ["postgres", "broker"])
async def test_a_killed_process_loses_nothing_that_was_acknowledged(
    path: DataPath, load: StartLoad, victim: str
) -> None:
    running = load()
    await flows(running)
    restarts = path.part(victim).restarts
    path.signal(victim, signal.SIGKILL)
    await path.restarted(victim, restarts)
    await flows(running)
    await ends(path, running)
    # Only with the broker do connections end, and only on a new one is anything sent again: what
    # was under way, which may have been nothing.
    assert (running.connections > len(running.senders)) == (victim == "broker")
    assert running.repeated == 0 or victim == "broker"


async def test_a_full_disk_acknowledges_nothing_that_is_not_stored_and_is_recovered_from(
    path: DataPath, load: StartLoad, disk: Disk | None
) -> None:
    if disk is None:
        pytest.skip("needs a user who may mount a file system")
    running = load(rate=20_000.0)
    await flows(running)
    broker = path.pid("broker")
    disk.fill(left=1024 * 1024)
    try:
        acknowledged = await stands(lambda: running.acknowledged)
        assert acknowledged < running.sent
        assert disk.free < 64 * 1024
        assert path.pid("broker") == broker
    finally:
        disk.empty()
    await flows(running)
    await ends(path, running)
    assert path.pid("broker") == broker


async def test_without_valkey_telemetry_goes_on_and_commands_arrive_when_it_is_back(
    path: DataPath, load: StartLoad, devices: Devices
) -> None:
    device = MadeDevice(*devices[0])
    running = load()
    await flows(running)
    sql = await asyncpg.connect(path.settings.admin_database_url, timeout=10)
    async with RawClient(path.settings) as client:
        assert await client.sign_in(device, client="hears") == 0
        await client.send(subscribe_packet(("v1/devices/me/commands/+", 0)))
        assert (await client.packet())[0] == 0x90
        restarts = path.part("valkey").restarts
        path.signal("valkey", signal.SIGSTOP)
        await flows(running)
        await sql.execute(
            "INSERT INTO device_commands (tenant_id, device_id, name, payload, expires_at) "
            "SELECT tenant_id, id, 'cool', '{}', now() + interval '1 minute' "
            "FROM devices WHERE id = $1",
            device.id,
        )
        path.signal("valkey", signal.SIGKILL)
        await path.restarted("valkey", restarts)
        header, body = await client.packet()  # nobody told the broker: it looked
        assert header == 0x30
        assert b"commands/cool" in body
        async with Redis.from_url(path.settings.valkey_url) as bus, bus.pubsub() as live:
            await live.subscribe(channels.telemetry(device.id))

            async def frame() -> object:
                return await live.get_message(ignore_subscribe_messages=True, timeout=1)

            await eventually(frame)
    await sql.close(timeout=10)
    await ends(path, running)
