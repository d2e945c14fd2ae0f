"""A raw MQTT client: sends any bytes and tells what came back."""

import asyncio
import struct
from types import TracebackType
from typing import Self
from uuid import UUID

from core.settings import Settings
from tests.support.tenants import MadeDevice


def packet(header: int, body: bytes) -> bytes:
    """Return an MQTT packet."""
    length, rest = b"", len(body)
    while True:
        byte, rest = rest & 0x7F, rest >> 7
        length += bytes([byte | 0x80 if rest else byte])
        if not rest:
            return bytes([header]) + length + body


def text(value: str | bytes) -> bytes:
    """Return a string with its length before it."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def connect_packet(
    username: str | None,
    password: str | None,
    *,
    client: str = "raw",
    clean: bool = True,
    keep_alive: int = 60,
    level: int = 4,
    will: tuple[str, bytes] | None = None,
    will_flags: int = 0,
) -> bytes:
    """Return a CONNECT."""
    flags = 0x02 if clean else 0
    payload = text(client)
    if will is not None:
        flags |= 0x04 | will_flags
        payload += text(will[0]) + text(will[1])
    if username is not None:
        flags |= 0x80
        payload += text(username)
    if password is not None:
        flags |= 0x40
        payload += text(password)
    head = text("MQTT") + bytes([level, flags]) + struct.pack(">H", keep_alive)
    return packet(0x10, head + payload)


def publish_packet(
    topic: str | bytes, payload: bytes, qos: int = 1, packet_id: int = 1, *, dup: bool = False
) -> bytes:
    """Return a PUBLISH."""
    number = struct.pack(">H", packet_id) if qos else b""
    return packet(0x30 | qos << 1 | (8 if dup else 0), text(topic) + number + payload)


def subscribe_packet(*filters: tuple[str, int]) -> bytes:
    """Return a SUBSCRIBE."""
    return packet(0x82, b"\0\1" + b"".join(text(f) + bytes([q]) for f, q in filters))


def telemetry_topic(device: MadeDevice | UUID) -> str:
    """Return a device's telemetry topic."""
    return f"v1/devices/{device.id if isinstance(device, MadeDevice) else device}/telemetry"


class RawClient:
    """A connection; use as an async context manager."""

    def __init__(self, settings: Settings) -> None:
        self._port = settings.broker.port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()

    async def send(self, *packets: bytes) -> None:
        """Send bytes."""
        self.writer.write(b"".join(packets))
        await self.writer.drain()

    async def packet(self) -> tuple[int, bytes]:
        """Return the next packet: first byte and body."""
        async with asyncio.timeout(10):
            header = (await self.reader.readexactly(1))[0]
            length = shift = 0
            while True:
                byte = (await self.reader.readexactly(1))[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if not byte & 0x80:
                    break
            return header, await self.reader.readexactly(length)

    async def closed(self) -> bytes:
        """Wait until the broker has closed the connection; return what came before."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def sign_in(self, device: MadeDevice, **more: object) -> int:
        """Sign in; return the return code of the CONNACK."""
        await self.send(connect_packet(str(device.id), device.key, **more))  # type: ignore[arg-type]
        header, body = await self.packet()
        assert header == 0x20
        return body[1]
