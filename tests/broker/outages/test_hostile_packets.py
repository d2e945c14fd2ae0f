"""Thousands of hostile packets against a running broker, and honest devices beside them."""

import asyncio
import socket
import struct

import psutil
import pytest

from tests.broker.outages.conftest import Devices, StartLoad
from tests.broker.raw import connect_packet
from tests.support.data_path import DataPath, Stored, stored
from tests.support.hostile_clients import Attack, attack_apart
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

PACKETS, SEED = 20_000, 4
_GROWTH = 120 * 1024 * 1024
"""Bytes: caches of names and sessions fill; a leak of a KiB a packet would be found."""


async def test_hostile_packets_neither_end_the_broker_nor_disturb_honest_devices(
    path: DataPath, load: StartLoad, devices: Devices
) -> None:
    honest, abused = devices[:4], devices[4:]
    running = load(devices=honest, rate=200.0)
    broker = psutil.Process(path.pid("broker"))
    restarts = path.part("broker").restarts
    memory = broker.memory_info().rss
    mqtt = path.settings.broker
    damage = await asyncio.to_thread(
        attack_apart, Attack(mqtt.host, mqtt.port, abused, PACKETS, SEED, slow=5)
    )
    assert damage.packets >= PACKETS
    assert (path.pid("broker"), path.part("broker").restarts) == (broker.pid, restarts)
    assert broker.memory_info().rss - memory < _GROWTH
    assert b'"exception"' not in (path.settings.logs / "broker.log").read_bytes()
    await asyncio.to_thread(running.stop, 60.0)
    assert running.faults == []
    assert running.connections == len(honest)
    assert await stored(path.settings, running) == Stored(running.acknowledged, 0, 0, 0)


async def test_clients_that_vanish_while_they_sign_in_take_nobody_along(
    path: DataPath, load: StartLoad, devices: Devices
) -> None:
    running = load(devices=devices[:1], rate=200.0)
    await eventually(lambda: running.acknowledged)
    broker = path.settings.broker
    pid, restarts = path.pid("broker"), path.part("broker").restarts
    for number in range(200):
        with socket.create_connection((broker.host, broker.port), timeout=10) as client:
            # No FIN but a reset, while the broker asks the database about the key.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(connect_packet(str(devices[1][0]), "wrong", client=f"gone{number}"))
    before = running.sent
    await eventually(lambda: running.acknowledged > before, timeout=30)
    assert (path.pid("broker"), path.part("broker").restarts) == (pid, restarts)
    await asyncio.to_thread(running.stop)
    assert running.connections == 1
