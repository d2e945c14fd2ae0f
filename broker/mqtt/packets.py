"""MQTT packets: amqtt's codecs where a packet is more than a packet id, and their rules.

MQTT 3.1.1, cited by its own numbers: https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/
"""

from __future__ import annotations

import struct
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from amqtt.adapters import BufferReader
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt.connack import IDENTIFIER_REJECTED, UNACCEPTABLE_PROTOCOL_VERSION
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from broker.mqtt.auth import RefusedError
from broker.mqtt.faults import MalformedPacketError

CONNECT: Final = 0x10
PUBACK, PUBREC, PUBREL, PUBCOMP = 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, UNSUBSCRIBE = 0x82, 0xA2
PINGREQ, DISCONNECT = 0xC0, 0xE0
PINGRESP: Final = b"\xd0\x00"
DENIED: Final = 0x80
"""Return code of a SUBACK for a filter that is not granted."""

MAX_CONTROL: Final = 32 * 1024
"""Bytes of the longest packet other than PUBLISH; a SUBSCRIBE of our topics is far shorter."""
_MAX_CLIENT_ID: Final = 128

# What amqtt's decoders raise on bytes that are not what they expect.
_DECODING: Final = (
    AMQTTError,
    MQTTError,
    CodecError,
    NoDataError,
    ValueError,
    IndexError,
    struct.error,
)
T = TypeVar("T")


class Will(NamedTuple):
    """What is published for a client that leaves without DISCONNECT."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool


class Wish(NamedTuple):
    """What a CONNECT asks for.

    Attributes:
        client_id: Not yet bound to a device; a random one when the client left it to the server.
        keep_alive: Seconds; 0 is none.
    """

    client_id: str
    clean: bool
    keep_alive: int
    username: str | None
    password: str | None
    will: Will | None


def first_packet(buffer: bytes) -> tuple[bytes, bytes] | None:
    """Return the body of the CONNECT that a buffer begins with, and what follows it.

    Returns None while it is not complete.

    Raises:
        MalformedPacketError: It is no CONNECT, or too long.
    """
    if buffer[:1] not in (b"", b"\x10"):
        raise MalformedPacketError("the first packet is no CONNECT [MQTT-3.1.0-1]")
    length = shift = 0
    for position in range(1, min(len(buffer), 5)):
        byte = buffer[position]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            if length > MAX_CONTROL:
                raise MalformedPacketError(f"a control packet of {length} bytes")
            start, end = position + 1, position + 1 + length
            return (buffer[start:end], buffer[end:]) if len(buffer) >= end else None
    if len(buffer) >= 5:
        raise MalformedPacketError("a remaining length of more than four bytes")
    return None


def read_wish(body: bytes) -> Wish:
    """Read a CONNECT.

    Raises:
        MalformedPacketError: It breaks a rule of MQTT.
        RefusedError: It is well-formed and cannot be accepted.
    """
    if body[:6] == b"\0\4MQTT" and body[6:7] not in (b"", b"\4"):
        # Before anything else: a CONNECT of another version has another form.
        raise RefusedError(UNACCEPTABLE_PROTOCOL_VERSION, "only MQTT 3.1.1")
    connect: ConnectPacket = _decode(ConnectPacket, CONNECT, body)
    header, payload = connect.variable_header, connect.payload
    if header is None or payload is None or header.proto_name != "MQTT":
        raise MalformedPacketError("not MQTT 3.1.1 [MQTT-3.1.2-1]")
    if header.reserved_flag:
        raise MalformedPacketError("the reserved flag is set [MQTT-3.1.2-3]")
    if header.password_flag and not header.username_flag:
        raise MalformedPacketError("a password without username [MQTT-3.1.2-22]")
    retain = bool(header.will_retain_flag)
    if header.will_qos == 3 or (not header.will_flag and (header.will_qos or retain)):
        raise MalformedPacketError("contradicting flags of the will [MQTT-3.1.2-13 to -15]")
    if header.will_flag and (payload.will_topic is None or payload.will_message is None):
        raise MalformedPacketError("a will without topic or message [MQTT-3.1.2-9]")
    if payload.client_id_is_random and not header.clean_session_flag:
        raise RefusedError(IDENTIFIER_REJECTED, "a lasting session needs a client id")
    client_id = payload.client_id or ""
    if len(client_id) > _MAX_CLIENT_ID or "\0" in client_id:
        raise RefusedError(IDENTIFIER_REJECTED, f"a client id over {_MAX_CLIENT_ID} characters")
    will = None
    if header.will_flag:
        topic, message = payload.will_topic or "", payload.will_message or b""
        will = Will(topic.encode(), bytes(message), header.will_qos, retain)
    return Wish(
        client_id,
        header.clean_session_flag,
        header.keep_alive,
        payload.username,
        payload.password,
        will,
    )


def read_subscribe(body: bytes) -> tuple[int, list[tuple[str, int]]]:
    """Return packet id and filters with the QoS asked for.

    Raises:
        MalformedPacketError: It breaks a rule of MQTT.
    """
    packet: SubscribePacket = _decode(SubscribePacket, SUBSCRIBE, body)
    header, payload = packet.variable_header, packet.payload
    if header is None or payload is None or not payload.topics or not header.packet_id:
        raise MalformedPacketError("a SUBSCRIBE without filters or id [MQTT-3.8.3-3]")
    # amqtt stops silently where a list of filters is cut off, and stringifies what is not UTF-8.
    if sum(3 + len(topic.encode()) for topic, _ in payload.topics) != len(body) - 2:
        raise MalformedPacketError("a SUBSCRIBE with a damaged list of filters")
    if any(qos > 2 for _, qos in payload.topics):
        raise MalformedPacketError("a requested QoS above 2 [MQTT-3-8.3-4]")
    return header.packet_id, payload.topics


def read_unsubscribe(body: bytes) -> tuple[int, list[str]]:
    """Return packet id and filters.

    Raises:
        MalformedPacketError: It breaks a rule of MQTT.
    """
    packet: UnsubscribePacket = _decode(UnsubscribePacket, UNSUBSCRIBE, body)
    header, payload = packet.variable_header, packet.payload
    if header is None or payload is None or not payload.topics or not header.packet_id:
        raise MalformedPacketError("an UNSUBSCRIBE without filters or id [MQTT-3.10.3-2]")
    if sum(2 + len(topic.encode()) for topic in payload.topics) != len(body) - 2:
        raise MalformedPacketError("an UNSUBSCRIBE with a damaged list of filters")
    return header.packet_id, payload.topics


def read_packet_id(body: bytes) -> int:
    """Return the packet id that is all there is in an acknowledgement.

    Raises:
        MalformedPacketError: There is more or less.
    """
    if len(body) != 2 or body == b"\0\0":
        raise MalformedPacketError("an acknowledgement that is no packet id")
    return body[0] << 8 | body[1]


def connack(code: int, *, present: bool = False) -> bytes:
    """Return a CONNACK."""
    return bytes((0x20, 2, present, code))


def answer(kind: int, packet_id: int) -> bytes:
    """Return a packet that consists of a packet id."""
    return bytes((kind, 2, packet_id >> 8, packet_id & 0xFF))


def suback(packet_id: int, codes: list[int]) -> bytes:
    """Return a SUBACK."""
    return MQTTFixedHeader(9, 0, 2 + len(codes)).to_bytes() + packet_id.to_bytes(2) + bytes(codes)


def publish(
    topic: bytes,
    payload: bytes,
    qos: int = 0,
    packet_id: int = 0,
    *,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """Return a PUBLISH."""
    flags = (dup << 3) | (qos << 1) | retain
    length = 2 + len(topic) + (2 if qos else 0) + len(payload)
    if length < 128:
        head = bytes((0x30 | flags, length))
    else:
        head = MQTTFixedHeader(3, flags, length).to_bytes()
    number = packet_id.to_bytes(2) if qos else b""
    return b"".join((head, len(topic).to_bytes(2), topic, number, payload))


def _decode(kind: Any, header: int, body: bytes) -> Any:
    """Run one of amqtt's decoders, coroutines that never wait: the packet is there in full."""
    fixed = MQTTFixedHeader(header >> 4, header & 0x0F, len(body))
    try:
        return _now(kind.from_stream(BufferReader(body), fixed_header=fixed))
    except _DECODING as error:
        raise MalformedPacketError(f"a packet of type {header >> 4}: {error!r}") from error


def _now(work: Coroutine[Any, Any, T]) -> T:
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise MalformedPacketError("a decoder that waits")
