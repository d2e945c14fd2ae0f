"""MQTT packets as a client writes and reads them, in 3.1.1 and 5; PUBLISH packets by the chunk.

Cited by their own numbers: https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/ and …/mqtt/v5.0/.
Of the properties of MQTT 5 only those are read that bind this client.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

CONNACK: Final = 0x20
PUBLISH: Final = 0x30
PUBACK: Final = 0x40
SUBACK: Final = 0x90
PINGRESP: Final = 0xD0
DISCONNECT: Final = 0xE0

PINGREQ: Final = b"\xc0\x00"
GOODBYE: Final = b"\xe0\x00"
NO_SUBSCRIBERS: Final = 0x10
"""Reason of a PUBACK: nobody gets the message (MQTT 5, 3.4.2.1)."""
FAILURE: Final = 0x80
"""Reasons from here on are refusals."""

_SESSION_EXPIRY, _RECEIVE_MAXIMUM, _PACKET_SIZE = 0x11, 0x21, 0x27
_SHARED_AVAILABLE, _KEEP_ALIVE = 0x2A, 0x13
_ONE: Final = (0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A)
_TWO: Final = (0x13, 0x21, 0x22, 0x23)
_FOUR: Final = (0x02, 0x11, 0x18, 0x27)
_TEXT: Final = (0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F)


class ProtocolError(Exception):
    """The other side sent what is not MQTT."""


class Publish(NamedTuple):
    """A message; `packet_id` is 0 at QoS 0, `again` says that it may have been delivered before."""

    topic: bytes
    payload: bytes
    packet_id: int
    retain: bool
    again: bool = False


class Reply(NamedTuple):
    """Any other packet: its type and what follows the remaining length."""

    kind: int
    body: bytes


class Limits(NamedTuple):
    """What the other side allows (MQTT 5, 3.2.2.3); its defaults hold in 3.1.1 too."""

    receive_maximum: int = 65_535
    keep_alive: int | None = None
    shared: bool = True


def _text(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def _length(size: int) -> bytes:
    out = bytearray()
    while True:
        out.append(size & 0x7F | (0x80 if size > 0x7F else 0))
        size >>= 7
        if not size:
            return bytes(out)


def _packet(header: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((header,)) + _length(len(body)) + body


def connect(
    client_id: str,
    username: str | None,
    password: str | None,
    *,
    keep_alive: int,
    five: bool,
    clean: bool,
    session_expiry: int,
    receive_maximum: int,
    largest: int,
) -> bytes:
    """Return a CONNECT; `session_expiry` is in seconds, `largest` in bytes."""
    flags = 0x02 if clean else 0
    payload = _text(client_id)
    if username is not None:
        flags |= 0x80
        payload += _text(username)
    if password is not None:
        flags |= 0x40
        payload += _text(password)
    head = _text("MQTT") + bytes((5 if five else 4, flags)) + struct.pack(">H", keep_alive)
    if not five:
        return _packet(0x10, head, payload)
    properties = struct.pack(
        ">BIBHBI",
        _SESSION_EXPIRY,
        0 if clean else session_expiry,
        _RECEIVE_MAXIMUM,
        receive_maximum,
        _PACKET_SIZE,
        largest,
    )
    return _packet(0x10, head, _length(len(properties)), properties, payload)


def subscribe(packet_id: int, filters: Iterable[str], *, five: bool) -> bytes:
    """Return a SUBSCRIBE at QoS 1; in MQTT 5 without retained messages (3.8.3.1)."""
    options = b"\x21" if five else b"\x01"
    head = struct.pack(">H", packet_id) + (b"\0" if five else b"")
    return _packet(0x82, head, *(_text(each) + options for each in filters))


def publish(topic: str, payload: bytes, packet_id: int, *, retain: bool, five: bool) -> bytes:
    """Return a PUBLISH at QoS 1."""
    number = struct.pack(">H", packet_id) + (b"\0" if five else b"")
    return _packet(0x33 if retain else 0x32, _text(topic), number, payload)


def pubacks(packet_ids: Iterable[int]) -> bytes:
    """Return PUBACKs."""
    return b"".join(b"\x40\x02" + struct.pack(">H", number) for number in packet_ids)


class PacketReader:
    """Takes packets out of chunks.

    Attributes:
        rest: The start of a packet whose end has not come.
    """

    def __init__(self, largest: int, *, five: bool) -> None:
        self._largest = largest
        self._five = five
        self.rest = b""

    def feed(self, chunk: bytes) -> list[Publish | Reply]:
        """Return the packets that are complete, in order.

        Raises:
            ProtocolError: The connection must be closed.
        """
        buffer = self.rest + chunk if self.rest else chunk
        size, position = len(buffer), 0
        found: list[Publish | Reply] = []
        while size - position >= 2:
            header = buffer[position]
            length, start = _read_length(buffer, position + 1)
            if start == 0:
                break
            if length > self._largest:
                raise ProtocolError(f"a packet of {length} bytes")
            end = start + length
            if end > size:
                break
            if header & 0xF0 == PUBLISH:
                found.append(self._publish(header, buffer, start, end))
            else:
                found.append(Reply(header & 0xF0, buffer[start:end]))
            position = end
        self.rest = buffer[position:]
        return found

    def _publish(self, header: int, buffer: bytes, start: int, end: int) -> Publish:
        qos = header >> 1 & 3
        topic_end = start + 2 + int.from_bytes(buffer[start : start + 2])
        at = topic_end + (2 if qos else 0)
        if qos > 1 or at > end or end - start < 2:
            raise ProtocolError("a malformed PUBLISH, or one of a QoS that was not asked for")
        number = int.from_bytes(buffer[topic_end:at]) if qos else 0
        if qos and not number:
            raise ProtocolError("packet id 0 [MQTT-2.3.1-1]")
        if self._five:
            skipped, at = _read_length(buffer[:end], at)
            at += skipped
            if at == skipped or at > end:
                raise ProtocolError("a PUBLISH with damaged properties")
        return Publish(
            buffer[start + 2 : topic_end],
            buffer[at:end],
            number,
            bool(header & 1),
            bool(header & 8),
        )


def _read_length(buffer: bytes, position: int) -> tuple[int, int]:
    """Return a variable byte integer and where it ends; 0 for the place when it is cut off."""
    value = shift = 0
    for place in range(position, min(position + 4, len(buffer))):
        byte = buffer[place]
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, place + 1
        shift += 7
    if len(buffer) >= position + 4:
        raise ProtocolError("a length of more than four bytes")
    return 0, 0


def reason(body: bytes, at: int) -> int:
    """Return the reason at a place of a reply; leaving it out means success (MQTT 5, 2.4)."""
    return body[at] if len(body) > at else 0


def read_limits(body: bytes) -> Limits:
    """Read what an MQTT 5 server allows from its CONNACK.

    Raises:
        ProtocolError: It is damaged.
    """
    limits = Limits()
    if len(body) < 3:
        return limits
    size, at = _read_length(body, 2)
    end = at + size
    if at == 0 or end > len(body):
        raise ProtocolError("a CONNACK with damaged properties")
    while at < end:
        kind = body[at]
        if kind in _ONE:
            width = 1
        elif kind in _TWO:
            width = 2
        elif kind in _FOUR:
            width = 4
        elif kind in _TEXT:
            width = 2 + int.from_bytes(body[at + 1 : at + 3])
        elif kind == 0x26:  # a user property: two texts
            width = 2 + int.from_bytes(body[at + 1 : at + 3])
            width += 2 + int.from_bytes(body[at + 1 + width : at + 3 + width])
        else:
            raise ProtocolError(f"a CONNACK with the property {kind:#x}")
        value = int.from_bytes(body[at + 1 : at + 1 + width]) if width <= 4 else 0
        if kind == _RECEIVE_MAXIMUM:
            limits = limits._replace(receive_maximum=max(1, value))
        elif kind == _KEEP_ALIVE:
            limits = limits._replace(keep_alive=value)
        elif kind == _SHARED_AVAILABLE:
            limits = limits._replace(shared=bool(value))
        at += 1 + width
    return limits
