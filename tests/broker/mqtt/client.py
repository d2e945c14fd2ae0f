"""An MQTT client that does nothing by itself: tests see every packet and answer what they want."""

import asyncio
from typing import NamedTuple

from core.settings import Settings
from tests.broker.raw import RawClient, connect_packet, packet, publish_packet, subscribe_packet

CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x20, 0x40, 0x50, 0x62, 0x70
SUBACK, UNSUBACK, PONG = 0x90, 0xB0, 0xD0
DISCONNECT = b"\xe0\x00"


class Message(NamedTuple):
    """A PUBLISH that came."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int


def read_message(header: int, body: bytes) -> Message:
    """Return a PUBLISH from its parts."""
    assert header & 0xF0 == 0x30, (hex(header), body)
    size = int.from_bytes(body[:2])
    topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
    qos = header >> 1 & 3
    packet_id = 0
    if qos:
        packet_id, rest = int.from_bytes(rest[:2]), rest[2:]
    return Message(topic, rest, qos, bool(header & 1), bool(header & 8), packet_id)


class Client(RawClient):
    """A connection."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._earlier: list[tuple[int, bytes]] = []

    async def packet(self) -> tuple[int, bytes]:
        """Return the next packet that no one has seen."""
        return self._earlier.pop(0) if self._earlier else await super().packet()

    async def connect(
        self, name: str, *, clean: bool = True, present: bool = False, **more: object
    ) -> None:
        """Send CONNECT; it must be accepted, with the session present or not."""
        more.setdefault("keep_alive", 0)
        more.setdefault("username", None)
        sent = connect_packet(password=None, client=name, clean=clean, **more)  # type: ignore[arg-type]
        await self.send(sent)
        assert await self.packet() == (CONNACK, bytes([present, 0]))

    async def subscribe(self, *filters: tuple[str, int]) -> list[int]:
        """Subscribe; return the codes."""
        await self.send(subscribe_packet(*filters))
        header, body = await self.packet()
        assert header == SUBACK
        return list(body[2:])

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 1,
        packet_id: int = 1,
        *,
        retain: bool = False,
        finish: bool = True,
    ) -> None:
        """Publish, and see it through unless told otherwise."""
        sent = bytearray(publish_packet(topic, payload, qos, packet_id))
        sent[0] |= retain
        await self.send(bytes(sent))
        if qos == 1 and finish:
            await self.expect(PUBACK, packet_id)
        if qos == 2 and finish:
            await self.expect(PUBREC, packet_id)
            await self.answer(PUBREL, packet_id)
            await self.expect(PUBCOMP, packet_id)

    async def answer(self, kind: int, packet_id: int) -> None:
        """Send a packet that is a packet id."""
        await self.send(packet(kind, packet_id.to_bytes(2)))

    async def expect(self, kind: int, packet_id: int) -> None:
        """The next packet must be this."""
        assert await self.packet() == (kind, packet_id.to_bytes(2))

    async def message(self) -> Message:
        """Return the next packet, which must be a PUBLISH, unanswered."""
        return read_message(*await self.packet())

    async def take(self) -> Message:
        """Return the next message, and answer it."""
        message = await self.message()
        if message.qos == 1:
            await self.answer(PUBACK, message.packet_id)
        elif message.qos == 2:
            await self.answer(PUBREC, message.packet_id)
            between: list[tuple[int, bytes]] = []
            while (came := await self.packet()) != (PUBREL, message.packet_id.to_bytes(2)):
                between.append(came)
            self._earlier = between + self._earlier
            await self.answer(PUBCOMP, message.packet_id)
        return message

    async def nothing(self) -> None:
        """Nothing but the answer to a PINGREQ must come."""
        await self.send(b"\xc0\x00")
        assert await self.packet() == (PONG, b"")

    async def leave(self) -> None:
        """Say DISCONNECT and wait for the end."""
        await self.send(DISCONNECT)
        await self.closed()

    async def vanish(self) -> None:
        """End without DISCONNECT."""
        self.writer.transport.abort()
        await asyncio.sleep(0)
