"""MQTT sessions and the CONNECT packet that opens them."""

import asyncio
import struct
from typing import Any, Final

from amqtt.adapters import BufferReader, StreamWriterAdapter
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt import packet_class
from amqtt.mqtt.connack import IDENTIFIER_REJECTED, UNACCEPTABLE_PROTOCOL_VERSION
from amqtt.mqtt.connect import ConnectPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.mqtt.subscribe import SubscribePacket, SubscribePayload
from amqtt.mqtt.unsubscribe import UnsubscribePacket, UnubscribePayload
from amqtt.session import Session

from broker.ingest.batching import AckTarget
from broker.mqtt.auth import RefusedError
from broker.mqtt.chunks import MAX_CONTROL, MalformedPacketError

_CLOSE_TIMEOUT: Final = 2.0  # seconds for the last bytes to reach a client that reads slowly
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


class _States:
    """A session's state, in place of amqtt's state machine: that costs 30 KB a connection."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = "new"

    def is_connected(self) -> bool:
        return self.state == "connected"


class DeviceSession(Session):
    """A session of a device.

    Nothing is queued for a device that is away: commands and the desired twin are in the database
    and are delivered when it comes back, so a session is its subscriptions and the QoS 2 messages
    that are under way.

    Attributes:
        current: The connection that has it.
        filters: Subscriptions and their granted QoS.
        received: QoS 2 messages between PUBLISH and PUBREL; True once committed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current: AckTarget | None = None
        self.filters: dict[str, int] = {}
        self.received: dict[int, bool] = {}
        self.is_anonymous = False

    def _init_states(self) -> None:
        # amqtt declares a Machine, of which it and we use this much.
        self.transitions: Any = _States()

    def connected(self, current: AckTarget) -> None:
        """Note that a connection took the session."""
        self.current = current
        self.transitions.state = "connected"
        self.last_connect_time, self.last_disconnect_time = None, None

    def disconnected(self, at: int) -> None:
        """Note that it has no connection since `at` (seconds since 1970)."""
        self.transitions.state = "disconnected"
        self.last_disconnect_time = at
        self.inflight_out.clear()


class DeviceWriter(StreamWriterAdapter):
    """Writes to a client, and closes without waiting for one that does not read."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(writer)
        self.stream = writer

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        return self.stream.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once; what waits is lost."""
        self.stream.transport.abort()

    async def close(self) -> None:
        """Close; the last bytes have a moment to leave."""
        if self.is_closed:
            return
        self.is_closed = True
        self.stream.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self.stream.wait_closed()
        except (OSError, TimeoutError):
            self.abort()


async def read_connect(reader: asyncio.StreamReader) -> ConnectPacket:
    """Read the first packet.

    Raises:
        MalformedPacketError: It is no CONNECT, or too long.
        asyncio.IncompleteReadError: The client went away.
    """
    header = (await reader.readexactly(1))[0]
    if header != 0x10:
        raise MalformedPacketError("the first packet is no CONNECT [MQTT-3.1.0-1]")
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
        shift += 7
        if shift > 21:
            raise MalformedPacketError("a remaining length of more than four bytes")
    if length > MAX_CONTROL:
        raise MalformedPacketError(f"a control packet of {length} bytes")
    return await decode(header, await reader.readexactly(length))


async def decode(header: int, body: bytes) -> Any:
    """Decode a whole packet other than PUBLISH into amqtt's form.

    Raises:
        MalformedPacketError: It is not what its header says.
    """
    kind = header >> 4
    # MQTT 3.1.1, 2.2.2: these three carry the flags 0010, all others none.
    if header & 0x0F != (0x02 if kind in (6, 8, 10) else 0):
        raise MalformedPacketError(f"flags {header & 0x0F:04b} in a packet of type {kind}")
    fixed = MQTTFixedHeader(kind, header & 0x0F, len(body))
    try:
        packet = await packet_class(fixed).from_stream(BufferReader(body), fixed_header=fixed)
    except _DECODING as error:
        raise MalformedPacketError(f"a packet of type {kind}: {error!r}") from error
    # amqtt stops silently where a list of filters is cut off, and stringifies what is not UTF-8.
    match packet:
        case SubscribePacket(payload=SubscribePayload(topics=topics)):
            size = sum(3 + len(topic.encode()) for topic, _ in topics)
        case UnsubscribePacket(payload=UnubscribePayload(topics=topics)):
            size = sum(2 + len(topic.encode()) for topic in topics)
        case _:
            return packet
    if size != len(body) - 2:
        raise MalformedPacketError(f"a packet of type {kind} with a damaged list of filters")
    return packet


def open_session(connect: ConnectPacket) -> DeviceSession:
    """Return the session that a CONNECT asks for, its client id not yet bound to a device.

    Raises:
        MalformedPacketError: It breaks a rule of MQTT.
        RefusedError: It is well-formed and cannot be accepted.
    """
    header, payload = connect.variable_header, connect.payload
    if header is None or payload is None or header.proto_name != "MQTT":
        raise MalformedPacketError("not MQTT 3.1.1 [MQTT-3.1.2-1]")
    if header.proto_level != 4:
        raise RefusedError(UNACCEPTABLE_PROTOCOL_VERSION, "only MQTT 3.1.1")
    if header.reserved_flag:
        raise MalformedPacketError("the reserved flag is set [MQTT-3.1.2-3]")
    if header.password_flag and not header.username_flag:
        raise MalformedPacketError("a password without username [MQTT-3.1.2-22]")
    if header.will_qos == 3 or (not header.will_flag and (header.will_qos or _retains(header))):
        raise MalformedPacketError("contradicting flags of the will [MQTT-3.1.2-13 to -15]")
    if header.will_flag and (payload.will_topic is None or payload.will_message is None):
        raise MalformedPacketError("a will without topic or message [MQTT-3.1.2-9]")
    if payload.client_id_is_random and not header.clean_session_flag:
        raise RefusedError(IDENTIFIER_REJECTED, "a lasting session needs a client id")
    if len(payload.client_id or "") > _MAX_CLIENT_ID:
        raise RefusedError(IDENTIFIER_REJECTED, f"a client id over {_MAX_CLIENT_ID} characters")
    session = DeviceSession()
    session.client_id = payload.client_id
    session.clean_session = header.clean_session_flag
    session.will_flag = header.will_flag
    session.will_topic, session.will_message = payload.will_topic, payload.will_message
    session.username, session.password = payload.username, payload.password
    session.keep_alive = header.keep_alive
    return session


def _retains(header: Any) -> bool:
    return bool(header.will_retain_flag)
