"""One MQTT connection: no task and no stream, just what it must remember.

It is fed by whatever calls an `asyncio.Protocol`: a TCP or TLS transport, or an adapter that takes
MQTT out of WebSocket frames and offers the same few methods of a transport.

Bounds: while the database cannot keep up (`IngestQueue.admitting` is false) what a client sends is
held back, one read of the transport at most, and its reading is paused; that is never taken for
the client's silence. A client that does not take what is written is cut off at `MAX_WAITING`
bytes; notices of faults and other QoS 0 messages are left out beyond `BUSY`. Subscriptions and
QoS 2 messages under way are limited in `broker.mqtt.sessions`, rates in `broker.mqtt.limits`.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog

from broker.ingest.batching import Part
from broker.mqtt import packets
from broker.mqtt.auth import RefusedError
from broker.mqtt.chunks import ChunkParser, Control, Waiting
from broker.mqtt.faults import DeniedError, MalformedPacketError
from broker.mqtt.limits import PIECE, Meter
from broker.mqtt.sessions import MAX_RECEIVED, Session
from broker.mqtt.subscriptions import subscribe, unsubscribe
from broker.mqtt.version5 import Version5, speaks
from core.topic_filters import matches
from core.topics_acl import Rights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.devices import Device
    from broker.dialects.children import Family
    from broker.mqtt.downlink import Downlink
    from broker.mqtt.server import MqttServer
    from broker.mqtt.voices import Voice

_log = structlog.get_logger(__name__)

MAX_WAITING: Final = 4 * 1024 * 1024
BUSY: Final = 256 * 1024


class State(IntEnum):
    """Where a connection stands."""

    NEW = 0  # CONNECT has not come
    SIGNING_IN = 1
    OPEN = 2
    CLOSED = 3


class Connection(asyncio.Protocol):
    """One client.

    Attributes:
        began: When it was accepted, by the server's clock.
        heard: When the last whole packet came.
        held: What was received and cannot be taken yet.
        host: The address it comes from.
        meter: What its rate is measured by; None: it has no limit.
        paused: Reading is paused.
        slowed: It is paused because it is over its rate, and held until that is over.
        choked: More than `BUSY` bytes wait for the client.
        will: What is published when it ends without DISCONNECT.
        downlink: What it has been sent from the database; made when it subscribes.
        family: The devices behind it; made when it speaks for one.
        rights: What it may publish and subscribe to.
        waiting: A message of it waits for something, and nothing is read meanwhile.
    """

    __slots__ = (
        "_five",
        "_keep_alive",
        "_missing",
        "_part",
        "_partial",
        "_transport",
        "began",
        "choked",
        "credential_id",
        "device",
        "downlink",
        "family",
        "heard",
        "held",
        "host",
        "meter",
        "parser",
        "paused",
        "rights",
        "server",
        "session",
        "slowed",
        "state",
        "waiting",
        "will",
    )

    device: Device
    session: Session
    credential_id: UUID
    rights: Rights
    parser: ChunkParser
    _transport: Any

    def __init__(self, server: MqttServer) -> None:
        self.server = server
        self.state = State.NEW
        self.began = self.heard = server.clock()
        self.held = b""
        self.host = ""
        self.meter: Meter | None = None
        self.paused = self.choked = self.slowed = self.waiting = False
        self.will: packets.Will | None = None
        self.downlink: Downlink | None = None
        self.family: Family | None = None
        self._five: Version5 | None = None
        self._keep_alive = 0
        self._missing = 0
        self._partial: bytearray | None = None
        self._part: Part | None = None

    # --- called by the transport -----------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.host = peer[0] if isinstance(peer, tuple) else ""
        transport.set_write_buffer_limits(high=BUSY)
        self.server.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self.state is not State.CLOSED:
            self._close("client", "connection lost" if exc is None else f"lost: {exc!r}")
        self.server.gone(self)
        # They refer to each other, and the collector, which runs rarely, would have to free them.
        if hasattr(self, "parser"):
            del self.parser
        self._part = self.downlink = None

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._five is not None:
            data = self._translated(self._five, data)
        state = self.state
        if state is State.OPEN and not self.paused and self.server.queue.admitting:
            if self.meter is None:
                self._take(data)
            else:
                self._measure(data, self.meter)
        elif state is State.NEW:
            self._greet(data)
        elif state is not State.CLOSED:
            self.held += data
            self.pause()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.choked = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.choked = False
        if self.state is State.OPEN:
            self.session.pump()

    # --- called by the server --------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether anything can be sent."""
        return self.state is State.OPEN

    @property
    def voices(self) -> Sequence[Voice]:
        """How it may be spoken to."""
        return self.server.voices

    @property
    def peer(self) -> Any:
        """Who it is, for the log; None when it is gone."""
        try:
            return self._transport.get_extra_info("peername")
        except (OSError, ValueError):  # uvloop asks the closed descriptor
            return None

    def go_on(self) -> None:
        """The client has been slowed for long enough."""
        self.slowed = False
        if self.state is not State.OPEN:
            return
        if self.server.queue.admitting:
            self.resume()
        else:
            self.server.held_back(self)

    @property
    def secure(self) -> bool:
        """Whether it came by TLS."""
        return self._transport.get_extra_info("ssl_object") is not None

    @property
    def certificate(self) -> bytes | None:
        """The client's certificate in DER, if it came by TLS and showed one."""
        tls = self._transport.get_extra_info("ssl_object")
        return None if tls is None else tls.getpeercert(binary_form=True)

    def pause(self) -> None:
        """Read nothing until `resume`."""
        if not self.paused:
            self.paused = True
            self._transport.pause_reading()
            if self.state is State.OPEN:
                self.server.held_back(self)

    def resume(self) -> None:
        """Take what was held back, and go on reading."""
        if not self.paused or self.waiting or self.state is not State.OPEN:
            return
        held, self.held = self.held, b""
        self.paused = False
        self.heard = self.server.clock()
        if held:
            self._measure(held, self.meter)
        elif self.parser.rest:
            self._take(held)  # what came behind a message that had to wait
        if self.state is State.OPEN and not self.paused:
            self._transport.resume_reading()

    def open(
        self,
        device: Device,
        credential_id: UUID,
        session: Session,
        rights: Rights,
        wish: packets.Wish,
        *,
        present: bool,
    ) -> None:
        """Let the client in."""
        self.device, self.credential_id, self.session = device, credential_id, session
        self.will = wish.will
        self.rights = rights
        self._keep_alive = wish.keep_alive
        self.parser = ChunkParser(device, self, self.server.shared, rights, session, session.space)
        self.state = State.OPEN
        self.heard = self.server.clock()
        self.write(packets.connack(0, present=present))
        session.current = self
        session.pump()
        if self.paused:  # something came while it signed in
            if self.server.queue.admitting:
                self.resume()
            else:
                self.server.held_back(self)

    def overdue(self, now: float) -> bool:
        """Tell whether the client has been silent for 1.5 times its keep-alive [MQTT-3.1.2-24].

        While the server itself is not reading, silence is not the client's fault.
        """
        return 0 < 1.5 * self._keep_alive < now - self.heard and not self.paused

    def end(self, why: str) -> None:
        """Close the connection."""
        self._close("broker", why)

    def refuse(self, code: int) -> None:
        """Answer the CONNECT with a code other than success, and close."""
        self.write(packets.connack(code))
        self._close("refused", f"code {code}")

    def abort(self) -> None:
        """Close at once; what waits to be written is lost."""
        self._transport.abort()

    def wake(self) -> None:
        """Look for commands and desired state that the device has not been sent."""
        self.server.downlinks.wake(self)

    # --- reading ---------------------------------------------------------------------------

    def _greet(self, data: bytes) -> None:
        self.held += data
        try:
            packet = packets.first_packet(self.held)
            if packet is None:
                return
            body, rest = packet
            if speaks(body):
                # As one of MQTT 3.1.1; the rest of the server knows nothing else.
                self._five = self.server.translator()
                translated = packets.first_packet(self._five.incoming(self.held))
                assert translated is not None  # it was whole before
                body, rest = translated
            self.held = rest
            self.state = State.SIGNING_IN
            if self.held:
                self.pause()
            wish = packets.read_wish(body)
        except MalformedPacketError as error:
            self._close("malformed", str(error))
        except RefusedError as error:
            self.server.refused(self, error)
        else:
            self.server.sign_in(self, wish)

    def _measure(self, data: bytes, meter: Meter | None) -> None:
        """Take what the client's rate allows; hold the rest, and slow the client."""
        size = len(data)
        piece = size if meter is None or meter.plenty(size) else PIECE
        position = 0
        while position < size and self.state is State.OPEN:
            taken = data[position : position + piece]
            position += piece
            before = self.device.received
            self._take(taken)
            verdict = None
            if meter is not None:
                verdict = meter.charge(self.device.received - before, len(taken))
            if (verdict is None and not self.waiting) or self.state is not State.OPEN:
                continue
            self.held = data[position:]
            if verdict is None:
                return
            if verdict.end:
                self._close("limit", "over its rate for too long")
                return
            self.slowed = self.paused = True
            self._transport.pause_reading()
            self.server.slowed(self, verdict)
            return

    def _take(self, data: bytes) -> None:
        if self._partial is not None:
            # A long packet is gathered before it is parsed, not copied at each piece. Bytes of a
            # packet that is never completed are silence.
            self._partial += data
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._partial = bytes(self._partial), None
        kind = "error"
        try:
            self._parse(data)
        except MalformedPacketError as error:
            kind, why = "malformed", str(error)
        except DeniedError as error:
            kind, why = "denied", f"may not publish to {error}"
        except Exception:
            # One connection must not take the process along, whatever happens.
            why = "unexpected error"
            _log.exception("a connection failed", device_id=str(self.device.id))
        else:
            return
        finally:
            part, self._part = self._part, None
            if part is not None:
                self.server.queue.put(part)
        self._close(kind, why)

    def _parse(self, data: bytes) -> None:
        parser = self.parser
        size = len(parser.rest) + len(data)
        found = parser.feed(data)
        while isinstance(found, Control):
            self._control(found.header, found.body)
            if self.state is not State.OPEN:
                return
            found = parser.feed(b"")
        if len(parser.rest) < size:
            self.heard = self.server.clock()
        if isinstance(found, Waiting):
            self._wait(found)
        elif found.wanted:
            self._missing, self._partial = found.wanted, bytearray()

    def _wait(self, found: Waiting) -> None:
        """Read nothing until the work of a message is done."""
        self.waiting = True
        if not self.paused:
            self.paused = True
            self._transport.pause_reading()
        self.server.spawn(self._work(found))

    async def _work(self, found: Waiting) -> None:
        try:
            await found.work
        except Exception:
            # One connection must not take the process along, whatever happens.
            _log.exception("a message failed", device_id=str(self.device.id))
            self._close("error", "unexpected error")
            return  # not acknowledged
        self.waiting = False
        self.server.shared.ingest.submit(found.part)
        if self.state is State.OPEN and not self.slowed:
            self.server.held_back(self)

    def _translated(self, five: Version5, data: bytes) -> bytes:
        try:
            data = five.incoming(data)
        except MalformedPacketError as error:
            self._close("malformed", str(error))
            return b""
        if released := five.released():
            self._transport.write(released)
        return data

    def _control(self, header: int, body: bytes) -> None:
        match header:
            case packets.PINGREQ if not body:
                self.write(packets.PINGRESP)
            case packets.PUBACK:
                self._acknowledged(packets.read_packet_id(body), 1)
            case packets.PUBREC:
                self._received(packets.read_packet_id(body))
            case packets.PUBREL:
                self._release(packets.read_packet_id(body))
            case packets.PUBCOMP:
                self._acknowledged(packets.read_packet_id(body), 2)
            case packets.SUBSCRIBE:
                subscribe(self, self.rights, *packets.read_subscribe(body))
            case packets.UNSUBSCRIBE:
                unsubscribe(self, *packets.read_unsubscribe(body))
            case packets.DISCONNECT if not body:
                self.will = None
                self._close("client", "DISCONNECT")
            case _:
                raise MalformedPacketError(f"a packet {header:#x} of {len(body)} bytes")

    def part(self) -> Part:
        """Return what this chunk changes in the session, to be committed after its messages."""
        if self._part is None:
            self._part = Part(None, None)
        return self._part

    # --- acknowledging ---------------------------------------------------------------------

    def _acknowledged(self, packet_id: int, qos: int) -> None:
        outbox = self.session.outbox
        if outbox is None:
            return  # a late one
        if packet_id in outbox.passing:
            outbox.passing.discard(packet_id)
            if self.downlink is not None and self.downlink.acknowledged():
                self.wake()
            return
        message = outbox.acknowledged(packet_id, qos)
        if message is not None:
            if self.session.id is not None:
                self.part().sessions().done.append((self.session.id, message.position))
            self.session.pump()

    def _received(self, packet_id: int) -> None:
        """Answer PUBREC with PUBREL, once it is certain that the PUBLISH is never sent again."""
        outbox = self.session.outbox
        message = None if outbox is None else outbox.received(packet_id)
        if message is None:
            raise MalformedPacketError("PUBREC of nothing")
        answer = packets.answer(packets.PUBREL, packet_id)
        if self.session.id is None:
            self.write(answer)
        else:
            self.part().sessions().released.append((self.session.id, message.position))
            self.part().then(lambda: self.write(answer))

    def _release(self, packet_id: int) -> None:
        """End the delivery of a QoS 2 message of the client's."""
        if not self.session.received.pop(packet_id, True):
            raise MalformedPacketError("PUBREL before PUBREC [MQTT-4.3.3-1]")
        answer = packets.answer(packets.PUBCOMP, packet_id)
        if self.session.id is None:
            self.write(answer)
        else:
            # Or else the id, used anew after a restart, would be taken for a repetition.
            self.part().sessions().completed.append((self.session.id, packet_id))
            self.part().then(lambda: self.write(answer))

    def acknowledge(self, packets: bytes, count: int) -> None:
        """Send PUBACKs, unless the connection is gone."""
        if self.state is State.OPEN:
            self.server.metrics.acknowledged.inc(count)
            self.write(packets)

    def released(self, packet_ids: list[int]) -> None:
        """Answer committed QoS 2 messages with PUBREC."""
        current = self.session.current
        if current is not None and current is not self:
            # The session has moved to a new connection, which awaits these PUBRECs.
            current.released(packet_ids)
            return
        received = self.session.received
        for packet_id in packet_ids:
            if packet_id in received:
                received[packet_id] = True
        if self.state is State.OPEN:
            self.server.metrics.acknowledged.inc(len(packet_ids))
            self.write(b"".join(packets.answer(packets.PUBREC, n) for n in packet_ids))
            if len(received) > MAX_RECEIVED:
                self.end("too many QoS 2 messages without PUBREL")

    def report_fault(self, fault: bytes) -> None:
        """Tell the device of a message that became a dead letter; it may be left out."""
        if self.state is State.OPEN and not self.choked:
            for topic, _ in self.subscribed("errors"):
                self.write(packets.publish(topic.encode(), fault))

    # --- writing ---------------------------------------------------------------------------

    @property
    def hears_commands(self) -> bool:
        """Whether any subscription could match a command."""
        return any(
            f.startswith(prefix) and f[len(prefix) :].split("/")[0] in ("commands", "+", "#")
            for f in self.session.filters
            for prefix in self.rights.names("")
        )

    def subscribed(self, rest: str) -> list[tuple[str, int]]:
        """Return under which names a topic of the device API is heard, and at which QoS.

        Args:
            rest: The topic's part after the device. A device may have subscribed by its id, as
                `me`, or both. Where several filters match, the highest QoS counts (3.3.5).
        """
        found: list[tuple[str, int]] = []
        for topic in self.rights.names(rest):
            granted = [qos for f, qos in self.session.filters.items() if matches(f, topic)]
            if granted:
                found.append((topic, max(granted)))
        return found

    def granted(self, topic: str) -> int | None:
        """Return at which QoS a topic is heard; None when it is not."""
        granted = [qos for f, qos in self.session.filters.items() if matches(f, topic)]
        return max(granted) if granted else None

    def tell(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send an answer to the client, if it listens for it."""
        qos = self.granted(topic) if self.alive else None
        if qos is not None:
            self.send(topic, payload, min(qos, 1), retain=retain)

    def send(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Send a message that the database has for the device; the session does not keep it."""
        packet_id = 0
        if qos:
            if self.downlink is not None:
                self.downlink.unacknowledged += 1
            outbox = self.session.owed()
            packet_id = outbox.next_id()
            outbox.passing.add(packet_id)
        self.write(packets.publish(topic.encode(), payload, qos, packet_id, retain=retain))

    def write(self, data: bytes) -> None:
        """Write without waiting; a client that never reads is cut off."""
        if self.state is State.CLOSED:
            return
        if self._five is not None:
            data = self._five.outgoing(data)
        self._transport.write(data)
        if self.choked and self._transport.get_write_buffer_size() > MAX_WAITING:
            self._close("broker", "does not read")
            self.abort()

    def _close(self, kind: str, why: str) -> None:
        if self.state is State.CLOSED:
            return
        before, self.state = self.state, State.CLOSED
        self.held, self._partial = b"", None
        metrics = self.server.metrics
        metrics.closed.labels(kind).inc()
        log = _log.warning if kind in ("malformed", "denied", "error") else _log.debug
        log("connection closed", kind=kind, why=why, peer=self.peer)
        if before is State.OPEN:
            self.server.left(self)
        self._transport.close()
        self.server.closing(self)
