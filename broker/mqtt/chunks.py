"""Takes MQTT packets out of chunks of bytes; PUBLISH packets all at once, without a task each.

MQTT 3.1.1, cited by its own numbers: https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from broker.devices import Device
from broker.ingest.batching import AckTarget, Part
from broker.ingest.intake import Ingest
from broker.ingest.payloads import FUTURE, OLDEST, decode_flat, decode_wrapped
from broker.mqtt.faults import DeniedError, MalformedPacketError
from broker.mqtt.packets import MAX_CONTROL
from broker.mqtt.router import Router, Space
from core.topic_filters import MAX_TOPIC, valid_topic
from core.topics_acl import Rights, Route

if TYPE_CHECKING:
    from broker.mqtt.sessions import Session

Handler = Callable[[Part, Device, Route, bytes, bytes, int], Coroutine[Any, Any, None] | None]
"""Takes a message of a route: part, device, route, topic, payload, time of receipt.

Returns work that has to wait, if there is some; it must not raise.
"""

_OLDEST_MS: Final = OLDEST // 1000
_PUBACK: Final = b"\x40\x02"


class Control(NamedTuple):
    """A packet other than PUBLISH: its first byte and what follows the remaining length."""

    header: int
    body: bytes


class Missing(NamedTuple):
    """The buffer ends within a packet: `wanted` bytes more complete it; 0 when not known yet."""

    wanted: int


class Waiting(NamedTuple):
    """A message needs work that waits; nothing is read meanwhile, and `part` is submitted after.

    The part holds everything up to this message, and the acknowledgement of it.
    """

    work: Coroutine[Any, Any, None]
    part: Part


class Shared(NamedTuple):
    """What all parsers of a server have in common.

    Attributes:
        handlers: What becomes of messages of a route other than telemetry and plain topics.
        max_payload: Bytes.
    """

    ingest: Ingest
    router: Router
    handlers: Mapping[Route, Handler]
    max_payload: int


class ChunkParser:
    """Parses the stream of one connection.

    Attributes:
        rest: Bytes that have not been consumed.
    """

    __slots__ = ("_device", "_flat", "_rights", "_session", "_shared", "_space", "_target", "rest")

    def __init__(
        self,
        device: Device,
        target: AckTarget,
        shared: Shared,
        rights: Rights,
        session: Session,
        space: Space,
    ) -> None:
        self._device = device
        self._target = target
        self._shared = shared
        self._rights = rights
        self._session = session
        self._space = space
        self._flat = False
        self.rest = b""

    def feed(self, chunk: bytes) -> Control | Missing | Waiting:
        """Consume what is there up to the first packet that is no PUBLISH, or has to wait.

        Everything consumed is handed to ingest, also when this raises.

        Raises:
            MalformedPacketError: The connection must be closed.
            DeniedError: The device may not publish there; the connection must be closed.
        """
        part = Part(self._device, self._target)
        buffer = self.rest + chunk if self.rest else chunk
        ids: list[bytes] = []
        found: Control | Missing | Waiting | None = None
        try:
            position, found = self._scan(buffer, part, ids)
            self.rest = buffer[position:]
            return found
        finally:
            if ids:
                part.acks = _PUBACK + _PUBACK.join(ids)
            if part.messages and not isinstance(found, Waiting):
                self._shared.ingest.submit(part)

    def _scan(
        self, buffer: bytes, part: Part, ids: list[bytes]
    ) -> tuple[int, Control | Missing | Waiting]:
        device, rights, space = self._device, self._rights, self._space
        ingest, router, handlers, max_payload = self._shared
        denied_size = max_payload + MAX_TOPIC + 4
        lists, prefix, rows, live = device.lists, device.prefix, part.rows, part.live
        streams, context = device.streams, device.context
        window, bindings, judge = ingest.window, device.bindings, ingest.triggers.judge
        start, end_of_window = window.start, window.end
        now = time.time_ns() // 1000
        newest_ms = (now + FUTURE) // 1000
        flat = self._flat
        last_topic, route, heard = b"", None, None
        size, position = len(buffer), 0
        while size - position >= 2:
            header = buffer[position]
            length = buffer[position + 1]
            p = position + 2
            if length & 0x80:
                length, p = _long_length(buffer, position)
                if p == 0:
                    return position, Missing(0)
            end = p + length
            if header & 0xF0 != 0x30:
                if length > MAX_CONTROL:
                    raise MalformedPacketError(f"a control packet of {length} bytes")
                if end > size:
                    return position, Missing(end - size)
                return end, Control(header, buffer[p:end])
            if length > denied_size:
                raise MalformedPacketError(f"a PUBLISH of {length} bytes")
            if end > size:
                return position, Missing(end - size)
            qos = header & 6
            if length < 2:
                raise MalformedPacketError("a PUBLISH without topic")
            topic_end = p + 2 + (buffer[p] << 8 | buffer[p + 1])
            body = topic_end + 2 if qos else topic_end
            if body > end:
                raise MalformedPacketError("a PUBLISH whose topic is longer than itself")
            topic = buffer[p + 2 : topic_end]
            if topic != last_topic or route is None:
                route = rights.route(topic)
                if route is None:
                    raise DeniedError(topic.decode(errors="replace")[:MAX_TOPIC])
                last_topic, heard = topic, _heard(route, topic, space)
            if end - body > max_payload:
                raise MalformedPacketError(f"a payload of {end - body} bytes")
            if qos == 2:
                packet_id = buffer[topic_end:body]
                if packet_id == b"\0\0":
                    raise MalformedPacketError("packet id 0 [MQTT-2.3.1-1]")
                ids.append(packet_id)
            elif qos:
                if not self._exactly_once(part, header, buffer[topic_end:body]):
                    position = end
                    continue
            elif header & 8:
                raise MalformedPacketError("DUP with QoS 0 [MQTT-3.3.1-2]")
            part.messages += 1
            part.bytes += length
            payload = buffer[body:end]
            position = end
            if heard is not None:
                retain = header & 1 if route is Route.TOPIC else 0
                router.publish(part, space, heard, payload, qos >> 1, retain)
            if route is not Route.TELEMETRY:
                if route is not Route.TOPIC:
                    work = handlers[route](part, device, route, topic, payload, now)
                    if work is not None:
                        return position, Waiting(work, part)
                continue
            # From here on only numbers with a plain time; whatever else goes the long way.
            try:
                if flat:
                    ts, values = None, decode_flat(payload)
                else:
                    message = decode_wrapped(payload)
                    ts, values = message.ts, message.values
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                ingest.message(part, device, route, topic, payload, now)
                if not flat and b'"values"' not in payload:
                    self._flat = flat = True
                elif flat:
                    self._flat = flat = False
                continue
            if ts is None:
                at = now if now > device.last_time else device.last_time + 1
            elif type(ts) is int and _OLDEST_MS <= ts <= newest_ms:
                at = ts * 1000
            else:
                ingest.message(part, device, route, topic, payload, now)
                continue
            quality = None
            if streams is None:
                encoder = lists.get(tuple(values))
                stream = None
            else:
                stream = streams.get(tuple(values))
                encoder = None if stream is None else stream.encoder
            if encoder is None:  # also a flat message with `ts`, which is no metric
                ingest.message(part, device, route, topic, payload, now)
                continue
            if ts is None:
                device.last_time = at
            if stream is not None and stream.changes:
                values, quality = stream.measure(at, now, values, context)
                rows.append(encoder.row(prefix, at, tuple(values.values()), quality))
            else:
                numbers = tuple(values.values())
                if stream is not None:
                    quality = stream.score(at, now, numbers)
                if quality is not None:
                    rows.append(encoder.row(prefix, at, numbers, quality))
                elif len(numbers) == 1:
                    rows.append(encoder.one(prefix, at, numbers[0]))
                else:
                    rows.append(encoder.many(prefix, at, numbers))
            if quality is not None:
                part.doubtful += 1
            live.append((at, values, encoder, quality))
            if not start <= at < end_of_window:
                part.hours.add(at // 3_600_000_000)
            if bindings:
                judge(part, device, at, now, values, quality)
        return position, Missing(0)

    def take(self, part: Part, topic: bytes, payload: bytes, qos: int, *, retain: bool) -> None:
        """Take one message that did not come as a PUBLISH: the will."""
        ingest, router, handlers, _ = self._shared
        route = self._rights.route(topic)
        if route is None:
            return  # it was granted once
        heard = _heard(route, topic, self._space)
        if heard is not None:
            keep = retain and route is Route.TOPIC
            router.publish(part, self._space, heard, payload, qos, keep)
        now = time.time_ns() // 1000
        if route is Route.TELEMETRY:
            ingest.message(part, self._device, route, topic, payload, now)
        elif route is not Route.TOPIC:
            work = handlers[route](part, self._device, route, topic, payload, now)
            if work is not None:
                work.close()  # no connection is left that could wait for it

    def _exactly_once(self, part: Part, header: int, packet_id: bytes) -> bool:
        """Note a QoS 2 message; tell whether it is new (MQTT 4.3.3, method A)."""
        if header & 6 == 6:
            raise MalformedPacketError("QoS 3 [MQTT-3.3.1-4]")
        number = int.from_bytes(packet_id)
        if number == 0:
            raise MalformedPacketError("packet id 0 [MQTT-2.3.1-1]")
        received = self._session.received
        committed = received.get(number)
        if committed is None:
            received[number] = False
            part.released.append(number)
            if self._session.id is not None:
                part.sessions().received.append((self._session.id, number))
            return True
        if committed:
            self._target.released([number])
        return False


def _heard(route: Route, topic: bytes, space: Space) -> str | None:
    """Return the topic's name if its messages go to subscribers, which few do.

    Topics of the device API are not retained: the latest values and the twin are kept anyway.
    """
    if route is not Route.TOPIC and not len(space.tree):
        return None
    name = valid_topic(topic)
    if route is Route.TOPIC:
        if name is None:
            raise MalformedPacketError("not a topic name [MQTT-3.3.2-2]")
        return name
    return name if name is not None and space.tree.match(name) else None


def _long_length(buffer: bytes, position: int) -> tuple[int, int]:
    """Read a remaining length of more than one byte; (0, 0) when the buffer ends within it."""
    length, shift, p = 0, 0, position + 1
    while p < len(buffer):
        byte = buffer[p]
        p += 1
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return length, p
        shift += 7
        if shift > 21:
            raise MalformedPacketError("a remaining length of more than four bytes")
    return 0, 0
