"""The broker is killed while clients talk to one another: nothing is lost, nothing comes twice."""

import asyncio
import signal

import pytest

from core.settings import Settings
from tests.broker.conftest import broker_settings
from tests.broker.ingest.test_triggers import broker_process
from tests.broker.mqtt.client import PUBCOMP, PUBREC, PUBREL, Client, read_message
from tests.broker.raw import publish_packet
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

COUNT = 300
LOST = (asyncio.IncompleteReadError, ConnectionError)


class _Publisher:
    """Sends numbered messages at QoS 2, and remembers how far each has come."""

    def __init__(self) -> None:
        self.unsent = list(range(COUNT, 0, -1))
        self.published: dict[int, None] = {}
        self.released: dict[int, None] = {}

    @property
    def done(self) -> bool:
        return not (self.unsent or self.published or self.released)

    async def run(self, client: Client) -> None:
        await client.send(
            *(publish_packet("a", b"%d" % n, 2, n, dup=True) for n in self.published),
            *(b"\x62\x02" + n.to_bytes(2) for n in self.released),
        )
        while not self.done:
            while self.unsent and len(self.published) < 50:
                number = self.unsent.pop()
                self.published[number] = None
                await client.send(publish_packet("a", b"%d" % number, 2, number))
            header, body = await client.packet()
            number = int.from_bytes(body)
            if header == PUBREC:
                self.published.pop(number, None)
                self.released[number] = None
                await client.answer(PUBREL, number)
            else:
                assert header == PUBCOMP
                del self.released[number]


class _Subscriber:
    """Takes messages exactly once, as MQTT 3.1.1, 4.3.3 has it."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.unreleased: set[int] = set()

    async def run(self, client: Client) -> None:
        while len(self.numbers) < COUNT or self.unreleased:
            header, body = await client.packet()
            if header == PUBREL:
                number = int.from_bytes(body)
                self.unreleased.discard(number)
                await client.answer(PUBCOMP, number)
                continue
            message = read_message(header, body)
            if message.packet_id not in self.unreleased:
                self.unreleased.add(message.packet_id)
                self.numbers.append(int(message.payload))
            await client.answer(PUBREC, message.packet_id)


@pytest.mark.slow
async def test_exactly_once_and_in_order_through_two_kills(
    postgres_server: Settings, valkey_server: Settings, device: MadeDevice
) -> None:
    settings = broker_settings(postgres_server)
    open_broker = ("tests.support.open_broker", device.key)
    publisher, subscriber = _Publisher(), _Subscriber()
    for kill_at in (COUNT // 3, COUNT * 2 // 3, COUNT + 1):
        first = kill_at == COUNT // 3
        async with (
            broker_process(settings, *open_broker) as child,
            Client(settings) as hears,
            Client(settings) as tells,
        ):
            await hears.connect("hears", clean=False, present=not first)
            await tells.connect("tells", clean=False, present=not first)
            if first:
                await hears.subscribe(("a", 2))
            talk = asyncio.gather(
                publisher.run(tells), subscriber.run(hears), return_exceptions=True
            )
            await eventually(
                lambda at=kill_at, talk=talk: len(subscriber.numbers) >= at or talk.done(),
                timeout=60,
                interval=0.001,
            )
            if not talk.done():
                child.send_signal(signal.SIGKILL)
            outcomes = await asyncio.wait_for(talk, 60)
            assert [o for o in outcomes if o is not None and not isinstance(o, LOST)] == []
    assert publisher.done
    assert sorted(subscriber.numbers) == list(range(1, COUNT + 1))
    assert subscriber.numbers == sorted(subscriber.numbers)
