"""MQTT 5 clients on a server of MQTT 3.1.1: their packets in its form, and its packets in theirs.

For clients that speak nothing else (ThingsBoard's SDK among them), not for what is new in MQTT 5:
properties are read over, and the CONNACK says what there is not. A session's expiry is this
server's own (`SESSION_EXPIRY`) or none; retain handling, no-local, message expiry and will delay
are not kept, and properties of a message do not reach its subscribers. What the server sends
respects the client's Receive Maximum.

MQTT 5, cited by its own numbers: https://docs.oasis-open.org/mqtt/mqtt/v5.0/
"""

from __future__ import annotations

from collections import deque
from typing import Final
from uuid import uuid4

from broker.mqtt.faults import MalformedPacketError
from broker.mqtt.packets import DENIED, MAX_CONTROL

_REASONS: Final = {0: 0x00, 1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}
"""Return codes of a CONNACK (MQTT 3.1.1, 3.2.2.3) in MQTT 5 (3.2.2.2)."""
_NOT_AUTHORIZED: Final = 0x87
_MAX_UNSUBSCRIBING: Final = 1000  # UNSUBSCRIBE packets without their answer

_ONE, _TWO, _FOUR, _VARIABLE, _BINARY, _PAIR = range(6)
_PROPERTIES: Final = {
    0x01: _ONE,
    0x02: _FOUR,
    0x03: _BINARY,
    0x08: _BINARY,
    0x09: _BINARY,
    0x0B: _VARIABLE,
    0x11: _FOUR,
    0x12: _BINARY,
    0x13: _TWO,
    0x15: _BINARY,
    0x16: _BINARY,
    0x17: _ONE,
    0x18: _FOUR,
    0x19: _ONE,
    0x1A: _BINARY,
    0x1C: _BINARY,
    0x1F: _BINARY,
    0x21: _TWO,
    0x22: _TWO,
    0x23: _TWO,
    0x24: _ONE,
    0x25: _ONE,
    0x26: _PAIR,
    0x27: _FOUR,
    0x28: _ONE,
    0x29: _ONE,
    0x2A: _ONE,
}
"""Identifier → form (2.2.2.2)."""
_SESSION_EXPIRY, _ASSIGNED_ID, _RECEIVE_MAXIMUM = 0x11, 0x12, 0x21
_SUBSCRIPTION_ID, _TOPIC_ALIAS, _MAXIMUM_SIZE = 0x0B, 0x23, 0x27


def speaks(body: bytes) -> bool:
    """Tell whether the body of a CONNECT is of MQTT 5."""
    return body[:7] == b"\0\4MQTT\5"


class Version5:
    """Translates one connection's bytes; `incoming` begins with its CONNECT.

    Args:
        max_payload: Bytes of the longest payload the server takes.
        session_expiry: Seconds that the server keeps a session.
    """

    def __init__(self, max_payload: int, session_expiry: int) -> None:
        self._max_packet = max_payload + 1024
        self._session_expiry = session_expiry
        self._buffer = b""
        self._assigned = b""
        self._expiry: int | None = None
        self._window = 65_535
        self._under_way = 0
        self._waiting: deque[bytes] = deque()
        self._unsubscribing: dict[int, int] = {}

    # --- from the client -------------------------------------------------------------------

    def incoming(self, data: bytes) -> bytes:
        """Return what the server is to see of these bytes: whole packets.

        Raises:
            MalformedPacketError: The connection must be closed.
        """
        buffer = self._buffer + data if self._buffer else data
        out: list[bytes] = []
        position = 0
        while (found := _frame(buffer, position)) is not None:
            header, start, end = found
            limit = self._max_packet if header & 0xF0 == 0x30 else MAX_CONTROL
            if end - start > limit:
                raise MalformedPacketError(f"a packet of {end - start} bytes")
            if end > len(buffer):
                break
            out.append(self._packet(header, buffer[start:end]))
            position = end
        self._buffer = buffer[position:]
        return b"".join(out)

    def _packet(self, header: int, body: bytes) -> bytes:
        match header & 0xF0:
            case 0x10:
                return _join(header, self._connect(body))
            case 0x30:
                return _join(header, self._publish(header, body))
            case 0x40 | 0x50 | 0x60 | 0x70:
                if header & 0xF0 in (0x40, 0x70) and self._under_way:
                    self._under_way -= 1
                return _join(header, body[:2])  # 3.4.2.1: the reason may be left out
            case 0x80:
                return _join(header, self._subscribe(body))
            case 0xA0:
                return _join(header, self._unsubscribe(body))
            case 0xE0:
                # 3.14.2.1: all but 0 leave the will to be published, as a lost connection does.
                return _join(header, b"" if body[:1] in (b"", b"\0") else body[:1])
            case _:
                return _join(header, body)

    def _connect(self, body: bytes) -> bytes:
        _need(body, 10)
        flags, position = body[7], 10
        properties, position = _properties(body, position)
        expiry = properties.get(_SESSION_EXPIRY, 0)
        self._window = properties.get(_RECEIVE_MAXIMUM, 65_535)
        if not self._window:
            raise MalformedPacketError("a Receive Maximum of 0 (MQTT 5, 3.1.2.11.3)")
        # A new session that lasts cannot be asked for in MQTT 3.1.1: it ends with its connection.
        lasting = bool(expiry) and not flags & 2
        if expiry:
            self._expiry = min(expiry, self._session_expiry) if lasting else 0
        client_id, position = _text(body, position)
        if not client_id:
            client_id = self._assigned = uuid4().hex.encode()
        payload = [_prefixed(client_id)]
        if flags & 4:
            _, position = _properties(body, position)
        payload.append(body[position:])
        flags = flags & ~2 | (0 if lasting else 2)
        if flags & 0xC0 == 0x40:
            # A password without username, which MQTT 3.1.1 does not know: an empty username.
            raise MalformedPacketError("a password without username")
        return b"".join((body[:6], b"\4", bytes((flags,)), body[8:10], *payload))

    @staticmethod
    def _publish(header: int, body: bytes) -> bytes:
        topic, position = _text(body, 0)
        if header & 6:
            position += 2
        head = body[:position]
        properties, position = _properties(body, position)
        if _TOPIC_ALIAS in properties or not topic:
            raise MalformedPacketError("a topic alias, of which there are none (MQTT 5, 3.2.2.3.8)")
        return head + body[position:]

    @staticmethod
    def _subscribe(body: bytes) -> bytes:
        _need(body, 2)
        out = [body[:2]]
        properties, position = _properties(body, 2)
        if _SUBSCRIPTION_ID in properties:
            raise MalformedPacketError(
                "a subscription identifier, which there are not (3.2.2.3.12)"
            )
        while position < len(body):
            topic_filter, position = _text(body, position)
            _need(body, position + 1)
            out += (_prefixed(topic_filter), bytes((body[position] & 3,)))
            position += 1
        return b"".join(out)

    def _unsubscribe(self, body: bytes) -> bytes:
        _need(body, 2)
        _, start = _properties(body, 2)
        count, position = 0, start
        while position < len(body):
            _, position = _text(body, position)
            count += 1
        if len(self._unsubscribing) >= _MAX_UNSUBSCRIBING:
            raise MalformedPacketError("too many UNSUBSCRIBE packets at once")
        self._unsubscribing[int.from_bytes(body[:2])] = count
        return body[:2] + body[start:]

    # --- to the client ---------------------------------------------------------------------

    def outgoing(self, data: bytes) -> bytes:
        """Return whole packets of the server as the client understands them."""
        out: list[bytes] = []
        position = 0
        while (found := _frame(data, position)) is not None:
            header, start, end = found
            packet = self._answer(header, data[start:end])
            if header & 0xF0 == 0x30 and header & 6:
                self._waiting.append(packet)
            else:
                out.append(packet)
            position = end
        out.append(self.released())
        return b"".join(out)

    def released(self) -> bytes:
        """Return what waited for the client's window and may leave now."""
        out: list[bytes] = []
        while self._waiting and self._under_way < self._window:
            self._under_way += 1
            out.append(self._waiting.popleft())
        return b"".join(out)

    def _answer(self, header: int, body: bytes) -> bytes:
        match header & 0xF0:
            case 0x20:
                code = _REASONS.get(body[1], 0x80)
                properties = b"" if code else self._offer()
                head = bytes((body[0], code)) + _length(len(properties))
                return _join(header, head + properties)
            case 0x30:
                at = 2 + int.from_bytes(body[:2]) + (2 if header & 6 else 0)
                return _join(header, body[:at] + b"\0" + body[at:])
            case 0x90:
                codes = bytes(_NOT_AUTHORIZED if code == DENIED else code for code in body[2:])
                return _join(header, body[:2] + b"\0" + codes)
            case 0xB0:
                count = self._unsubscribing.pop(int.from_bytes(body[:2]), 1)
                return _join(header, body[:2] + b"\0" + bytes(count))
            case _:
                return _join(header, body)

    def _offer(self) -> bytes:
        """Return the properties of a CONNACK (3.2.2.3)."""
        out = [b"\x29\0", b"\x2a\0", bytes((_MAXIMUM_SIZE,)) + self._max_packet.to_bytes(4)]
        if self._expiry is not None:
            out.append(bytes((_SESSION_EXPIRY,)) + self._expiry.to_bytes(4))
        if self._assigned:
            out.append(bytes((_ASSIGNED_ID,)) + _prefixed(self._assigned))
        return b"".join(out)


def _frame(buffer: bytes, position: int) -> tuple[int, int, int] | None:
    """Return header, start and end of the packet's body; None while its length is not there."""
    length = shift = 0
    for at in range(position + 1, min(len(buffer), position + 5)):
        byte = buffer[at]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return buffer[position], at + 1, at + 1 + length
    if len(buffer) >= position + 5:
        raise MalformedPacketError("a remaining length of more than four bytes")
    return None


def _properties(body: bytes, position: int) -> tuple[dict[int, int], int]:
    """Read properties over; return those that are numbers, and where they end."""
    length, position = _variable(body, position)
    end = position + length
    _need(body, end)
    numbers: dict[int, int] = {}
    while position < end:
        identifier, position = body[position], position + 1
        match _PROPERTIES.get(identifier):
            case None:
                raise MalformedPacketError(f"a property {identifier:#x}")
            case 0 | 1 | 2 as form:
                size = (1, 2, 4)[form]
                numbers[identifier] = int.from_bytes(body[position : position + size])
                position += size
            case 3:
                numbers[identifier], position = _variable(body, position)
            case 4:
                _, position = _text(body, position)
            case _:
                _, position = _text(body, position)
                _, position = _text(body, position)
    if position != end:
        raise MalformedPacketError("properties that end beyond their length")
    return numbers, end


def _variable(body: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    for at in range(position, position + 4):
        _need(body, at + 1)
        number |= (body[at] & 0x7F) << shift
        shift += 7
        if not body[at] & 0x80:
            return number, at + 1
    raise MalformedPacketError("a number of more than four bytes")


def _text(body: bytes, position: int) -> tuple[bytes, int]:
    _need(body, position + 2)
    end = position + 2 + int.from_bytes(body[position : position + 2])
    _need(body, end)
    return body[position + 2 : end], end


def _need(body: bytes, size: int) -> None:
    if len(body) < size:
        raise MalformedPacketError("a packet that ends too early")


def _prefixed(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


def _length(number: int) -> bytes:
    out = bytearray()
    while True:
        number, byte = divmod(number, 128)
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def _join(header: int, body: bytes) -> bytes:
    return bytes((header,)) + _length(len(body)) + body
