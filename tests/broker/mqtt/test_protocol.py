"""MQTT as it is spoken, and how the broker answers those who do not."""

import asyncio
from uuid import uuid4

import aiomqtt
import asyncpg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.settings import Settings
from core.topic_filters import matches
from core.topics_acl import Grant, Topics
from tests.broker.conftest import Connect, broker_running, broker_settings, metric
from tests.broker.raw import (
    RawClient,
    connect_packet,
    packet,
    publish_packet,
    subscribe_packet,
    telemetry_topic,
    text,
)
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

PUBACK = 0x40
PING, PONG = b"\xc0\x00", (0xD0, b"")


async def test_a_publish_in_single_bytes_is_one_message(
    broker: Settings, device: MadeDevice
) -> None:
    async with RawClient(broker) as client:
        await client.sign_in(device)
        for byte in publish_packet(telemetry_topic(device), b'{"a": 1}', packet_id=77):
            await client.send(bytes([byte]))
        assert await client.packet() == (PUBACK, b"\0\x4d")


async def test_many_packets_in_one_chunk_are_answered_in_order(
    broker: Settings, device: MadeDevice
) -> None:
    async with RawClient(broker) as client:
        await client.sign_in(device)
        topic = telemetry_topic(device)
        await client.send(
            *(publish_packet(topic, b'{"a": 1}', packet_id=i) for i in range(1, 301)),
        )
        ids = [int.from_bytes((await client.packet())[1]) for _ in range(300)]
        assert ids == list(range(1, 301))


async def test_the_largest_payload_passes_and_a_larger_one_closes(
    broker: Settings, device: MadeDevice
) -> None:
    largest = broker.broker.max_payload
    async with RawClient(broker) as client:
        await client.sign_in(device)
        payload = b'{"a": 1' + b" " * (largest - 8) + b"}"
        await client.send(publish_packet(telemetry_topic(device), payload))
        assert (await client.packet())[0] == PUBACK
        await client.send(publish_packet(telemetry_topic(device), payload + b" "))
        assert await client.closed() == b""


async def test_a_length_that_is_too_large_closes_before_anything_is_buffered(
    broker: Settings, device: MadeDevice
) -> None:
    async with RawClient(broker) as client:
        await client.sign_in(device)
        await client.send(b"\x32\xff\xff\xff\x7f")  # 256 MB announced, none sent
        assert await client.closed() == b""


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00\x00",  # reserved type
        b"\xf0\x00",
        b"\x20\x02\x00\x00",  # what only servers send
        b"\x90\x03\x00\x01\x00",
        b"\x50\x02\x00\x01",  # PUBREC of nothing
        b"\xc1\x00",  # PINGREQ with flags
        b"\xc0\x01\x00",  # PINGREQ with a body
        b"\x80\x02\x00\x01",  # SUBSCRIBE with wrong flags
        packet(0x82, b"\0\1"),  # no filters
        packet(0x82, b"\0\0" + text("v1/devices/me/errors") + b"\0"),  # packet id 0
        packet(0x82, b"\0\1" + text("v1/devices/me/errors")),  # QoS missing
        packet(0x82, b"\0\1" + text("v1/devices/me/errors") + b"\3"),  # QoS 3
        packet(0x82, b"\0\1" + text(b"\xff\xfe") + b"\0"),  # not UTF-8
        packet(0x82, b"\0\1\xff\xff"),  # a string longer than the packet
        packet(0xA2, b"\0\1"),
        packet(0x32, text("v1/devices/me/telemetry")),  # no packet id
        packet(0x32, text("v1/devices/me/telemetry") + b"\0\0{}"),
        packet(0x36, text("v1/devices/me/telemetry") + b"\0\1{}"),  # QoS 3
        packet(0x38, text("v1/devices/me/telemetry") + b"{}"),  # DUP at QoS 0
        packet(0x30, b"\xff\xff{}"),
        packet(0x30, b"\0"),
        packet(0x30, text("") + b"{}"),
        packet(0x62, b""),
        b"\x32\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\xd0\xff\xff\xff\x7f",
    ],
)
async def test_a_malformed_packet_closes_the_connection_and_only_that(
    broker: Settings, device: MadeDevice, damage: bytes
) -> None:
    async with RawClient(broker) as client, RawClient(broker) as bystander:
        await client.sign_in(device)
        await bystander.sign_in(device, client="bystander")
        await client.send(damage)
        assert await client.closed() == b""
        await bystander.send(PING)
        assert await bystander.packet() == PONG


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        PING,
        packet(0x10, b""),
        packet(0x10, text("MQTT") + b"\x04"),
        packet(0x10, text("MQXX") + b"\x04\x02\0\0" + text("x")),
        packet(0x10, text("MQTT") + b"\x04\x03\0\0" + text("x")),  # reserved flag
        packet(0x10, text("MQTT") + b"\x04\x42\0\0" + text("x") + text("p")),  # no username
        packet(0x10, text("MQTT") + b"\x04\x1a\0\0" + text("x")),  # will QoS without will
        packet(0x10, text("MQTT") + b"\x04\x06\0\0" + text("x")),  # will missing
        packet(0x11, text("MQTT") + b"\x04\x02\0\0" + text("x")),
        b"\x10\xff\xff\xff\x7f",
    ],
)
async def test_a_bad_first_packet_closes_without_an_answer(broker: Settings, first: bytes) -> None:
    async with RawClient(broker) as client:
        await client.send(first)
        assert await client.closed() == b""


async def test_other_protocol_versions_are_told_so(broker: Settings, device: MadeDevice) -> None:
    async with RawClient(broker) as client:
        assert await client.sign_in(device, level=6) == 1


async def test_a_second_connect_closes(broker: Settings, device: MadeDevice) -> None:
    async with RawClient(broker) as client:
        await client.sign_in(device)
        await client.send(connect_packet(str(device.id), device.key))
        assert await client.closed() == b""


async def test_whoever_does_not_send_a_connect_is_cut_off(
    broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.mqtt.server.CONNECT_TIMEOUT", 0.1)
    async with RawClient(broker) as client:
        await client.send(b"\x10")
        assert await client.closed() == b""


async def test_a_packet_that_never_ends_is_silence(broker: Settings, device: MadeDevice) -> None:
    async with RawClient(broker) as client:
        await client.sign_in(device, keep_alive=1)

        async def dribble() -> bool:
            if not client.reader.at_eof():
                client.writer.write(b"\x32\x7f" if not sent else b"\0")
                sent.append(None)
            return client.reader.at_eof()

        sent: list[None] = []
        closing = asyncio.create_task(client.closed())
        await eventually(dribble, interval=0.2)
        await closing


async def test_silence_beyond_the_keep_alive_is_cut_off(
    broker: Settings, device: MadeDevice
) -> None:
    loop = asyncio.get_running_loop()
    async with RawClient(broker) as client:
        await client.sign_in(device, keep_alive=1)
        began = loop.time()
        await client.closed()
        assert 1.4 < loop.time() - began < 4


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_cut_and_changed_packets_never_hurt_the_broker(
    broker: Settings, device: MadeDevice, data: st.DataObject
) -> None:
    good = data.draw(
        st.sampled_from(
            [
                publish_packet(telemetry_topic(device), b'{"values": {"a": 1}}'),
                publish_packet("v1/devices/me/events", b'{"name": "x"}', qos=2),
                publish_packet("v1/devices/me/commands/x/response", b'{"id": 1}'),
                subscribe_packet(("v1/devices/me/commands/+", 1)),
                packet(0xA2, b"\0\1" + text("v1/devices/me/errors")),
                packet(0x40, b"\0\1"),
                packet(0x62, b"\0\1"),
                PING,
            ]
        )
    )
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(1, len(good)))])
    async with RawClient(broker) as client:
        await client.sign_in(device)
        await client.send(cut, data.draw(st.binary(max_size=20)))
        client.writer.write_eof()
        await client.closed()
    async with RawClient(broker) as client:
        assert await client.sign_in(device) == 0


@pytest.mark.parametrize(
    "topic",
    [
        "v1/devices/{other}/telemetry",
        "v1/devices/{own}/telemetry/more",
        "v1/devices/{own}/attributes/desired",
        "v1/devices/{own}/commands/x",
        "v1/devices/{own}/commands//response",
        "v1/devices/{own}/commands/a/b/response",
        "v1/devices/+/telemetry",
        "v1/devices/{own}/errors",
        "telemetry",
        "$SYS/broker",
    ],
)
async def test_a_publish_elsewhere_is_not_acknowledged_and_closes(
    broker: Settings, device: MadeDevice, topic: str
) -> None:
    async with RawClient(broker) as client:
        await client.sign_in(device)
        name = topic.format(own=device.id, other=uuid4())
        await client.send(publish_packet(name, b'{"a": 1}'))
        assert await client.closed() == b""


async def test_what_came_before_a_denied_publish_is_still_stored(
    broker: Settings, device: MadeDevice, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with RawClient(broker) as client:
        await client.sign_in(device)
        await client.send(
            publish_packet(telemetry_topic(device), b'{"a": 1}'),
            publish_packet("elsewhere", b'{"a": 2}', packet_id=2),
        )
        await client.closed()

    async def stored() -> bool:
        found = await sql.fetchval("SELECT values FROM telemetry WHERE device_id=$1", device.id)
        return found == [1.0]

    await eventually(stored)


async def test_subscriptions_are_granted_to_what_is_the_devices_own(
    broker: Settings, device: MadeDevice
) -> None:
    own = f"v1/devices/{device.id}"
    wanted = {
        f"{own}/commands/+": 1,
        f"{own}/commands/reboot": 0,
        f"{own}/attributes/desired": 2,
        f"{own}/errors": 0,
        f"{own}/#": 1,
        "v1/devices/me/commands/+": 1,
        f"{own}/telemetry": 0x80,
        f"{own}/commands/+/response": 0x80,
        f"{own}/commands/a#": 0x80,
        f"{own}/#/x": 0x80,
        f"v1/devices/{uuid4()}/commands/+": 0x80,
        "v1/devices/+/commands/+": 0x80,
        "v1/#": 0x80,
        "#": 0x80,
        "+/+/+/+": 0x80,
        f"$share/group/{own}/commands/+": 0x80,
        "$SYS/#": 0x80,
        "": 0x80,
    }
    async with RawClient(broker) as client:
        await client.sign_in(device)
        await client.send(subscribe_packet(*((f, q if q < 3 else 1) for f, q in wanted.items())))
        header, body = await client.packet()
        assert header == 0x90
        assert dict(zip(wanted, body[2:], strict=True)) == wanted


async def test_too_many_subscriptions_are_refused(broker: Settings, device: MadeDevice) -> None:
    async with RawClient(broker) as client:
        await client.sign_in(device)
        filters = [(f"v1/devices/me/commands/c{i}", 0) for i in range(33)]
        await client.send(subscribe_packet(*filters))
        _, body = await client.packet()
        assert list(body[2:]) == [0] * 32 + [0x80]


async def test_qos_2_is_stored_once_however_often_it_is_sent(
    broker: Settings, device: MadeDevice, sql: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    message = publish_packet(telemetry_topic(device), b'{"a": 1}', qos=2, packet_id=9)
    again = publish_packet(telemetry_topic(device), b'{"a": 1}', qos=2, packet_id=9, dup=True)
    async with RawClient(broker) as client:
        await client.sign_in(device, clean=False)
        await client.send(message)
        assert await client.packet() == (0x50, b"\0\x09")
    async with RawClient(broker) as client:  # the PUBREC was lost with the connection
        await client.send(connect_packet(str(device.id), device.key, clean=False))
        assert await client.packet() == (0x20, b"\x01\x00")
        await client.send(again)
        assert await client.packet() == (0x50, b"\0\x09")
        await client.send(packet(0x62, b"\0\x09"))
        assert await client.packet() == (0x70, b"\0\x09")
        await client.send(message)
        assert await client.packet() == (0x50, b"\0\x09")
    count = await sql.fetchval("SELECT count(*) FROM telemetry WHERE device_id=$1", device.id)
    assert count == 2


async def test_the_will_of_a_device_that_vanishes_is_its_last_message(
    broker: Settings,
    device: MadeDevice,
    connect: Connect,
    sql: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    topic = f"v1/devices/{device.id}/events"
    async with RawClient(broker) as client:
        await client.sign_in(device, will=(topic, b'{"name": "vanished"}'))
    will = aiomqtt.Will(topic, '{"name": "left"}')
    async with connect(broker, device, will=will):
        pass  # says DISCONNECT, so its will is void

    async def names() -> list[str]:
        rows = await sql.fetch("SELECT name FROM device_events WHERE device_id=$1", device.id)
        return [row["name"] for row in rows]

    async def vanished() -> bool:
        return await names() == ["vanished"]

    await eventually(vanished)


async def test_a_will_elsewhere_is_refused(broker: Settings, device: MadeDevice) -> None:
    async with RawClient(broker) as client:
        assert await client.sign_in(device, will=("somewhere", b"x")) == 5


async def test_reading_pauses_while_the_database_is_stuck_and_nothing_is_lost(
    postgres_server: Settings,
    valkey_server: Settings,
    device: MadeDevice,
    sql: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    total = 60_000
    settings = broker_settings(postgres_server, high_water=2_000, low_water=500)
    async with broker_running(settings) as broker, RawClient(broker) as client:
        await client.sign_in(device, keep_alive=1)
        topic = telemetry_topic(device)
        packets = [
            publish_packet(topic, b'{"values": {"a": 1.0}}', packet_id=i % 65535 + 1)
            for i in range(total)
        ]
        received = "iotlinker_messages_received_total"
        async with sql.transaction():
            await sql.execute("LOCK TABLE telemetry IN ACCESS EXCLUSIVE MODE")
            sending = asyncio.create_task(client.send(*packets))
            seen: list[float] = []

            async def steady() -> bool:
                seen.append(await metric(broker, received))
                return len(seen) > 10 and seen[-1] == seen[-10] > 0

            # Longer than 1.5 times its keep-alive, which is not the client's fault.
            await eventually(steady, interval=0.25)
            assert 2_000 <= seen[-1] < 10_000
        await sending
        for number in range(total):
            header, packet_id = await client.packet()
            assert (header, int.from_bytes(packet_id)) == (PUBACK, number % 65535 + 1)
        assert await metric(broker, received) == total
    count = await sql.fetchval("SELECT count(*) FROM telemetry WHERE device_id=$1", device.id)
    assert count == total


@given(st.lists(st.sampled_from(["a", "b", "+", "#"]), min_size=1, max_size=4))
def test_what_may_be_subscribed_can_match_something(levels: list[str]) -> None:
    device_id = uuid4()
    topics = Topics(device_id)
    topic_filter = f"v1/devices/{device_id}/" + "/".join(levels)
    down = [*topics.names("errors"), *topics.names("attributes/desired")]
    down += [name for c in "ab" for name in topics.names(f"commands/{c}")]
    if "#" not in levels[:-1]:
        granted = topics.grant(topic_filter) is Grant.OWN
        assert granted == any(matches(topic_filter, topic) for topic in down)
    else:
        assert topics.grant(topic_filter) is Grant.DENIED
