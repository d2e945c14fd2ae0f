"""While the database cannot keep up, reading is paused, and that is never the client's silence.

Everything here is by hand: the clock, the transport and the commits.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

from broker.devices import Devices
from broker.entrance import Entrance
from broker.ingest.batching import IngestQueue, Part
from broker.ingest.intake import Ingest
from broker.ingest.profiles import Profiles
from broker.ingest.triggers import TriggerIndex
from broker.metrics import BrokerMetrics
from broker.mqtt.connection import Connection
from broker.mqtt.server import MqttServer
from broker.presence import Presence
from core.db.repositories.ingest_devices import DeviceRow
from core.settings import Settings, load_settings
from tests.broker.raw import connect_packet, publish_packet
from tests.support.mqtt import AllowAll
from tests.support.waiting import eventually

PING, PONG = b"\xc0\x00", b"\xd0\x00"
CONNACK = b"\x20\x02\x00\x00"
HIGH, LOW = 100, 50


class _Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Transport:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.closed = False
        self.waiting = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def get_extra_info(self, name: str) -> Any:
        return None


class _Empty:
    """A database with nothing in it."""

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        yield self

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        return []


class _World:
    """A server with one client."""

    def __init__(self, settings: Settings) -> None:
        metrics = BrokerMetrics()
        self.clock = _Clock()
        self.queue = IngestQueue(HIGH, LOW, metrics)
        database: Any = _Empty()
        notifier: Any = None
        devices, triggers = Devices(Profiles(metrics.derive_errors.inc)), TriggerIndex(metrics)
        row = DeviceRow(
            credential_id=uuid4(),
            device_id=uuid4(),
            tenant_id=uuid4(),
            name="x",
            profile="x",
            lifecycle="active",
            usable=True,
            metadata="{}",
            location=None,
            profile_id=uuid4(),
            site=None,
            tags=[],
        )
        self.server = MqttServer(
            settings,
            database,
            AllowAll(row),
            Entrance(database, devices, triggers),
            Ingest(self.queue, triggers, metrics),
            Presence(database, devices, self.queue, notifier),
            metrics,
            [],
            self.clock,
        )
        self.transport = _Transport()
        self.client = Connection(self.server)

    async def sign_in(self, keep_alive: int) -> None:
        self.client.connection_made(self.transport)
        self.client.data_received(connect_packet(None, None, keep_alive=keep_alive))
        await eventually(lambda: self.transport.written == CONNACK)
        self.transport.written = b""

    def fill(self) -> None:
        """Messages for the database, more than it takes."""
        part = Part(None, None)
        part.messages = HIGH
        self.queue.put(part)
        assert not self.queue.admitting

    async def commit(self) -> None:
        """The database has taken all of it."""
        batch = await self.queue.take()
        for part in batch.parts:
            if part.target is not None and part.acks:
                part.target.acknowledge(part.acks, 1)
        self.queue.done(batch)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.server.sweep()


@pytest.fixture
async def world(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_World]:
    monkeypatch.setenv("IOTLINKER_HOME", str(tmp_path))
    made = _World(load_settings())
    async with asyncio.TaskGroup() as group:
        await made.server.start(group)
        yield made
        made.server.stop_arrivals()
        made.client.end("over")
        made.client.connection_lost(None)
        await made.server.close()


async def test_a_client_that_is_not_read_is_not_silent(world: _World) -> None:
    await world.sign_in(keep_alive=1)
    world.fill()
    world.client.data_received(PING)
    assert not world.transport.reading
    assert world.transport.written == b""
    for _ in range(10):
        world.pass_time(2)
        assert not world.transport.closed
    await world.commit()
    assert world.queue.admitting
    world.pass_time(2)  # the queue takes more, this client is not read yet
    assert not world.transport.closed
    await eventually(lambda: world.transport.written == PONG)
    assert world.transport.reading
    world.pass_time(1.4)
    assert not world.transport.closed
    world.pass_time(0.2)
    assert world.transport.closed


async def test_a_client_that_sends_nothing_is_spared_while_nobody_is_read(world: _World) -> None:
    await world.sign_in(keep_alive=1)
    world.fill()
    world.pass_time(2)
    assert not world.transport.closed
    await world.commit()
    world.client.data_received(PING)
    world.pass_time(1)
    assert not world.transport.closed


async def test_what_was_held_back_is_taken_in_order_and_only_as_much_as_there_is_room_for(
    world: _World,
) -> None:
    await world.sign_in(keep_alive=60)
    world.fill()
    world.client.data_received(publish_packet("a", b"1", 1, 1))
    world.client.data_received(publish_packet("a", b"2", 1, 2)[:5])  # one more read, at most
    assert world.queue.weight == HIGH
    await world.commit()
    await eventually(lambda: world.transport.reading)
    world.client.data_received(publish_packet("a", b"2", 1, 2)[5:])
    await world.commit()
    assert world.transport.written == b"\x40\x02\0\1\x40\x02\0\2"


async def test_a_pause_of_the_process_is_not_the_clients(world: _World) -> None:
    await world.sign_in(keep_alive=1)
    world.pass_time(30)  # nothing was swept for so long: the process itself stood still
    assert not world.transport.closed
    world.pass_time(0.1)
    assert world.transport.closed


async def test_a_client_that_never_reads_is_cut_off(world: _World) -> None:
    await world.sign_in(keep_alive=0)
    world.client.pause_writing()
    world.transport.waiting = 4 * 1024 * 1024 + 1
    world.client.data_received(PING)
    assert world.transport.closed
