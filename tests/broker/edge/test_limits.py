"""What is over a limit is slowed or turned away, and nobody else notices."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from broker.devices import Device
from broker.metrics import BrokerMetrics
from broker.mqtt.gate import LONGEST, Gate
from broker.mqtt.limits import BURST, Limits
from core.db.repositories.ingest_devices import DeviceRow, TenantLimitsRow
from core.settings import Settings
from core.settings.processes import BrokerSettings
from tests.broker.conftest import broker_running, broker_settings, metric
from tests.broker.mqtt.client import Client
from tests.broker.raw import RawClient, connect_packet, publish_packet, telemetry_topic
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

Another = Callable[[], Awaitable[MadeDevice]]
Run = Callable[..., Any]


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Seconds."""
    return Clock()


@pytest.fixture
def run(postgres_server: Settings, valkey_server: Settings) -> Run:
    """Returns a running broker with these settings."""

    @asynccontextmanager
    async def broker(**changes: Any) -> AsyncGenerator[Settings]:
        async with broker_running(broker_settings(postgres_server, **changes)) as settings:
            yield settings

    return broker


async def publish(client: Client, topic: str, count: int, first: int = 1) -> None:
    """Send messages at once and see all acknowledged."""
    await client.send(
        *(publish_packet(topic, b'{"values": {"a": 1}}', 1, first + n) for n in range(count))
    )
    for number in range(count):
        await client.expect(0x40, first + number)


async def flood(client: RawClient, data: bytes) -> None:
    """Send without end."""
    for _ in range(10_000):
        await client.send(data)


async def test_a_device_over_its_rate_is_slowed_and_loses_nothing(
    run: Run, device: MadeDevice, another: Another, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    other = await another()
    async with (
        run(device_messages_per_second=200) as settings,
        Client(settings) as fast,
        Client(settings) as slow,
    ):
        assert await fast.sign_in(device) == 0
        assert await slow.sign_in(other) == 0
        await publish(slow, telemetry_topic(other), 10)
        assert await metric(settings, "iotlinker_readings_slowed_total") == 0
        await publish(fast, telemetry_topic(device), 1300)
        assert await metric(settings, "iotlinker_readings_slowed_total") >= 1
        await publish(slow, telemetry_topic(other), 10, first=11)

        async def told() -> bool:
            rows = await sql.fetch(
                "SELECT device_id FROM device_events WHERE name = 'rate_limited'"
            )
            return [row["device_id"] for row in rows] == [device.id]

        await eventually(told)
        await fast.nothing()


async def test_a_device_that_never_slows_down_is_disconnected(run: Run, device: MadeDevice) -> None:
    async with (
        run(device_bytes_per_second=20_000, over_limit_seconds=0.2) as settings,
        RawClient(settings) as client,
    ):
        assert await client.sign_in(device) == 0
        message = publish_packet(telemetry_topic(device), b'{"values": {"a": 1}}')
        with pytest.raises((ConnectionError, TimeoutError)):
            await flood(client, message * 50)
        assert await metric(settings, "iotlinker_connections_closed_total") == 1


async def test_a_tenants_configuration_sets_its_limits(
    run: Run,
    device: MadeDevice,
    another: Another,
    tenant_id: UUID,
    sql: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await sql.execute(
        """UPDATE tenants SET configuration = '{"limits": {"connections": 1}}' WHERE id = $1""",
        tenant_id,
    )
    other = await another()
    async with run() as settings, RawClient(settings) as one, RawClient(settings) as two:
        assert await one.sign_in(device) == 0
        assert await two.sign_in(other) == 3
        async with RawClient(settings) as again:
            assert await again.sign_in(device) == 0, "it takes its own place over"
        assert await metric(settings, "iotlinker_connections_turned_away_total") == 1


async def test_an_address_that_connects_too_often_is_turned_away(
    run: Run, device: MadeDevice
) -> None:
    async with run(address_connects=3, trusted_networks=[]) as settings:
        for _ in range(6):
            async with RawClient(settings) as client:
                await client.send(b"\x10")
        async with RawClient(settings) as client:
            assert await client.closed() == b""
        assert await metric(settings, "iotlinker_connections_turned_away_total") == 1


async def test_an_address_has_so_many_connections(run: Run, device: MadeDevice) -> None:
    async with run(address_connections=1, trusted_networks=[]) as settings:
        async with RawClient(settings) as one:
            assert await one.sign_in(device) == 0
            async with RawClient(settings) as two:
                assert await two.closed() == b""

        async def room() -> bool:
            async with RawClient(settings) as client:
                await client.send(connect_packet(str(device.id), device.key))
                return await client.reader.read(4) == b"\x20\x02\0\0"

        await eventually(room)


async def test_wrong_keys_delay_their_address_and_lock_nobody_out(
    run: Run, device: MadeDevice
) -> None:
    async with run(trusted_networks=[]) as settings:
        for _ in range(7):
            async with RawClient(settings) as client:
                await client.send(connect_packet(str(device.id), "wrong"))
                assert await client.packet() == (0x20, b"\0\4")
        async with RawClient(settings) as client:
            assert await client.sign_in(device) == 0


# --- without a broker --------------------------------------------------------------------------


def gate(clock: Clock, connections: int = 0, rate: float = 0) -> Gate:
    """Return a gate that trusts nobody."""
    return Gate(connections, rate, [], BrokerMetrics(), clock)


def test_waits_grow_to_a_limit_and_pass(clock: Clock) -> None:
    door = gate(clock)
    waits = []
    for _ in range(40):
        waits.append(door.wait("192.0.2.1"))
        door.failed("192.0.2.1")
    assert waits[:5] == [0] * 5
    assert waits == sorted(waits)
    assert door.wait("192.0.2.1") == LONGEST
    assert door.wait("192.0.2.2") == 0, "another address does not pay for it"
    clock.now += 600
    assert door.wait("192.0.2.1") == 0


def test_an_ipv6_network_counts_as_one_address(clock: Clock) -> None:
    door = gate(clock, connections=1)
    door.opened("2001:db8::1")
    assert not door.knock("2001:db8::ffff")
    assert door.knock("2001:db8:0:1::1")
    door.closed("2001:db8::1")
    assert door.knock("2001:db8::ffff")


def test_addresses_are_forgotten_and_their_connections_are_not(clock: Clock) -> None:
    door = gate(clock, connections=1, rate=1)
    door.opened("198.51.100.1")
    for number in range(30_000):
        door.knock(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
    assert not door.knock("198.51.100.1")
    assert len(door._addresses) <= 20_001


def device_of(tenant_id: UUID) -> Device:
    """Return a device."""
    row = DeviceRow(
        uuid4(), uuid4(), tenant_id, "d", "p", "active", True, "{}", None, uuid4(), None, []
    )
    return Device(row, {})


def limits(clock: Clock, **changes: Any) -> Limits:
    """Return the limits of these settings."""
    return Limits(BrokerSettings(**changes), clock)


def test_without_limits_nothing_is_measured(clock: Clock) -> None:
    assert limits(clock).meter(device_of(uuid4())) is None


def test_a_debt_is_paid_by_time_and_survives_a_reconnect(clock: Clock) -> None:
    rates = limits(clock, device_messages_per_second=10)
    device = device_of(uuid4())
    meter = rates.meter(device)
    assert meter is not None
    assert meter.charge(int(10 * BURST), 0) is None
    verdict = meter.charge(20, 0)
    assert verdict is not None
    assert verdict.wait == pytest.approx(2)
    assert verdict.scope == "device"
    assert verdict.tell
    rates.done(meter)
    rates.forget()
    clock.now += 1
    again = rates.meter(device)
    assert again is not None
    verdict = again.charge(0, 0)
    assert verdict is not None
    assert verdict.wait == pytest.approx(1)
    assert not verdict.tell, "one event a minute"
    clock.now += 1.1
    assert again.charge(0, 0) is None


def test_the_devices_of_a_tenant_share_its_rate(clock: Clock) -> None:
    rates = limits(clock, tenant_bytes_per_second=100)
    tenant = uuid4()
    one, two = rates.meter(device_of(tenant)), rates.meter(device_of(tenant))
    stranger = rates.meter(device_of(uuid4()))
    assert one is not None
    assert two is not None
    assert stranger is not None
    assert one.charge(1, int(100 * BURST)) is None
    verdict = two.charge(1, 50)
    assert verdict is not None
    assert (verdict.scope, verdict.end) == ("tenant", False)
    assert stranger.charge(1, 50) is None


def test_only_a_device_that_stays_over_its_rate_is_ended(clock: Clock) -> None:
    rates = limits(clock, device_messages_per_second=10, over_limit_seconds=60)
    meter = rates.meter(device_of(uuid4()))
    assert meter is not None
    ended = False
    for _ in range(100):
        verdict = meter.charge(100, 0)
        if verdict is not None:
            ended = ended or verdict.end
            clock.now += verdict.wait
    assert ended
    clock.now += 60
    verdict = meter.charge(100, 0)
    assert verdict is not None
    assert not verdict.end, "it was quiet meanwhile"


def test_a_configuration_that_is_not_understood_changes_nothing(clock: Clock) -> None:
    tenant = uuid4()
    rates = limits(clock, tenant_connections=7)
    assert not rates.load([TenantLimitsRow(tenant, '{"connections": "many"}')])
    assert rates.connections(tenant) == 7
    assert rates.load([TenantLimitsRow(tenant, '{"messages": 5}')])
    assert rates.connections(tenant) == 7
    assert rates.of(tenant).messages == 5
