"""The protocol of one connection, on top of amqtt's handler.

amqtt keeps the flows it does well: packets and their codecs, SUBACK, PINGRESP, QoS 1 and 2 towards
the device. Reading is ours: see `broker.mqtt.chunks`.

Bounds: a client that does not take its acknowledgements is cut off at `MAX_WAITING` bytes; notices
of faults (QoS 0) are left out while more than `_BUSY` bytes wait; subscriptions are limited to
`MAX_FILTERS`; QoS 2 messages under way to `MAX_RECEIVED`.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from broker.mqtt.chunks import ChunkParser, Control, DeniedError, MalformedPacketError
from broker.mqtt.downlink import Downlink
from broker.mqtt.sessions import DeviceSession, DeviceWriter, decode
from core.topics_acl import Topics, matches

if TYPE_CHECKING:
    from amqtt.broker import BrokerContext
    from amqtt.plugins.manager import PluginManager

    from broker.devices import Device
    from broker.ingest.intake import Ingest
    from broker.metrics import BrokerMetrics

_log = structlog.get_logger(__name__)

CHUNK: Final = 256 * 1024
MAX_WAITING: Final = 4 * 1024 * 1024
_BUSY: Final = 256 * 1024
MAX_FILTERS: Final = 32
MAX_RECEIVED: Final = 1000
_DENIED: Final = 0x80

_PINGREQ, _DISCONNECT = 0xC0, 0xE0
_PINGRESP: Final = b"\xd0\x00"


class DeviceHandler(BrokerProtocolHandler):
    """One connection of a device.

    Attributes:
        credential_id: What the device signed in with.
        ended: Set when nothing more will be read.
        why: Why it ended, for the log.
        clean: The client said DISCONNECT, so its will is void.
        heard: When the last whole packet came (`time.monotonic`).
    """

    def __init__(
        self,
        manager: PluginManager[BrokerContext],
        reader: asyncio.StreamReader,
        writer: DeviceWriter,
        session: DeviceSession,
        device: Device,
        ingest: Ingest,
        metrics: BrokerMetrics,
        max_payload: int,
        credential_id: UUID,
    ) -> None:
        super().__init__(manager)
        self.device = device
        self.credential_id = credential_id
        self.ended = asyncio.Event()
        self.why = ""
        self.clean = False
        self.heard = time.monotonic()
        self.downlink: Downlink | None = None
        self._own = session
        self._stream = reader
        self._sink = writer
        self._ingest = ingest
        self._metrics = metrics
        self._topics = Topics(device.id)
        self._parser = ChunkParser(device, self, ingest, session.received, max_payload)
        self._init_session(session)
        self.writer = writer
        self.keepalive_timeout = None  # amqtt's timer does nothing in a broker

    @property
    def overdue(self) -> bool:
        """Whether the client has been silent for 1.5 times its keep-alive [MQTT-3.1.2-24].

        While the broker itself is not reading, silence is not the client's fault.
        """
        if not self._own.keep_alive or not self._ingest.queue.admitting:
            return False
        return time.monotonic() - self.heard > 1.5 * self._own.keep_alive

    async def wait_disconnect(self) -> DisconnectPacket | None:
        """Wait until the connection has ended."""
        await self.ended.wait()
        return None

    def end(self, why: str) -> None:
        """Close the connection; the reader may be waiting for anything."""
        self.why = self.why or why
        if self._reader_task is not None:
            self._reader_task.cancel()

    def wake(self) -> None:
        """Look for commands and desired state that the device has not been sent."""
        if self.downlink is not None:
            self.downlink.wake()

    # --- reading ---------------------------------------------------------------------------

    async def _reader_loop(self) -> None:
        if self._reader_ready is not None:
            self._reader_ready.set()
        kind = "client"
        try:
            await self._read()
        except MalformedPacketError as error:
            kind, self.why = "malformed", str(error)
        except DeniedError as error:
            kind, self.why = "denied", f"may not publish to {error}"
        except (OSError, asyncio.IncompleteReadError) as error:
            self.why = self.why or f"connection lost: {error!r}"
        except asyncio.CancelledError:
            kind, self.why = "broker", self.why or "stopped"
        except Exception:
            kind, self.why = "error", "unexpected error"
            _log.exception("a connection failed", device_id=str(self.device.id))
        finally:
            self._metrics.closed.labels(kind).inc()
            log = _log.warning if kind in ("malformed", "denied") else _log.info
            log("connection closed", device_id=str(self.device.id), kind=kind, why=self.why)
            self._reader_stopped.set()
            self.ended.set()

    async def _read(self) -> None:
        queue, parser, stream = self._ingest.queue, self._parser, self._stream
        wanted = 0
        while True:
            # A long packet is read to its end by the stream, which does not copy it at each piece.
            chunk = await (stream.readexactly(wanted) if wanted else stream.read(CHUNK))
            if not chunk:
                self.why = "connection lost"
                return
            if not queue.admitting:
                # Until this very connection goes on: `admitting` alone turns true a moment before.
                self.heard = math.inf
                await queue.admitted()
                self.heard = time.monotonic()
            size = len(parser.rest) + len(chunk)
            found = parser.feed(chunk)
            if len(parser.rest) < size:  # bytes of a packet that is never completed do not count
                self.heard = time.monotonic()
            while isinstance(found, Control):
                if found.header == _PINGREQ and not found.body:
                    self.write(_PINGRESP)
                elif found.header == _DISCONNECT and not found.body:
                    self.clean, self.why = True, "DISCONNECT"
                    return
                else:
                    await self._control(found)
                found = parser.feed(b"")
            wanted = found.wanted

    async def _control(self, control: Control) -> None:
        """Handle a packet that amqtt decodes.

        Of these a client sends SUBSCRIBE, UNSUBSCRIBE, PUBACK and PUBREL; we send nothing at
        QoS 2, so there is no PUBREC or PUBCOMP, and a second CONNECT is forbidden [MQTT-3.1.0-2].
        """
        packet = await decode(control.header, control.body)
        match packet:
            case SubscribePacket():
                await self.handle_subscribe(packet)
            case UnsubscribePacket():
                await self.handle_unsubscribe(packet)
            case PubrelPacket():
                await self.handle_pubrel(packet)
            case PubackPacket():
                if packet.packet_id in self._puback_waiters:  # else a late one
                    await self.handle_puback(packet)
            case _:
                raise MalformedPacketError(f"a packet of type {control.header >> 4}")

    async def _send_packet(self, packet: Any) -> None:
        # amqtt's waits for the client to read, holding a lock; ours is bounded instead.
        self.write(packet.to_bytes())

    # --- subscriptions ---------------------------------------------------------------------

    async def handle_subscribe(self, subscribe: SubscribePacket) -> None:
        """Grant what is the device's own, and send what waits for it there."""
        header, payload = subscribe.variable_header, subscribe.payload
        if header is None or payload is None or not payload.topics or not header.packet_id:
            raise MalformedPacketError("a SUBSCRIBE without filters or id [MQTT-3.8.3-3]")
        codes: list[int] = []
        for topic_filter, qos in payload.topics:
            if qos > 2:
                raise MalformedPacketError("a requested QoS above 2 [MQTT-3-8.3-4]")
            full = len(self._own.filters) >= MAX_FILTERS and topic_filter not in self._own.filters
            if full or not self._topics.may_subscribe(topic_filter):
                _log.info("denied", device_id=str(self.device.id), filter=topic_filter)
                codes.append(_DENIED)
            else:
                self._own.filters[topic_filter] = qos
                codes.append(qos)
        await self.mqtt_acknowledge_subscription(header.packet_id, codes)
        if self.downlink is not None and any(code != _DENIED for code in codes):
            self.downlink.subscribed()

    async def handle_unsubscribe(self, unsubscribe: UnsubscribePacket) -> None:
        """Drop subscriptions."""
        header, payload = unsubscribe.variable_header, unsubscribe.payload
        if header is None or payload is None or not payload.topics or not header.packet_id:
            raise MalformedPacketError("an UNSUBSCRIBE without filters or id [MQTT-3.10.3-2]")
        for topic_filter in payload.topics:
            self._own.filters.pop(topic_filter, None)
        await self.mqtt_acknowledge_unsubscription(header.packet_id)

    @property
    def hears_commands(self) -> bool:
        """Whether any subscription could match a command."""
        return any(f.split("/")[3] in ("commands", "+", "#") for f in self._own.filters)

    def subscribed(self, rest: str) -> list[tuple[str, int]]:
        """Return under which names a topic reaches the device, and at which QoS.

        Args:
            rest: The topic's part after the device. A device may have subscribed by its id, as
                `me`, or both. Where several filters match, the highest QoS counts (3.3.5).
        """
        found: list[tuple[str, int]] = []
        for topic in self._topics.names(rest):
            granted = [qos for f, qos in self._own.filters.items() if matches(f, topic)]
            if granted:
                found.append((topic, max(granted)))
        return found

    # --- acknowledging ---------------------------------------------------------------------

    async def handle_pubrel(self, pubrel: PubrelPacket) -> None:
        """End the delivery of a QoS 2 message."""
        if not self._own.received.pop(pubrel.packet_id, True):
            raise MalformedPacketError("PUBREL before PUBREC [MQTT-4.3.3-1]")
        self.write(b"\x70\x02" + pubrel.packet_id.to_bytes(2))

    def acknowledge(self, packets: bytes, count: int) -> None:
        """Send PUBACKs, unless the connection is gone."""
        if not self.ended.is_set():
            self._metrics.acknowledged.inc(count)
            self.write(packets)

    def released(self, packet_ids: list[int]) -> None:
        """Answer committed QoS 2 messages with PUBREC."""
        current = self._own.current
        if current is not None and current is not self:
            # The session has moved to a new connection, which awaits these PUBRECs.
            current.released(packet_ids)
            return
        received = self._own.received
        for packet_id in packet_ids:
            if packet_id in received:
                received[packet_id] = True
        if not self.ended.is_set():
            self._metrics.acknowledged.inc(len(packet_ids))
            self.write(b"".join(b"\x50\x02" + number.to_bytes(2) for number in packet_ids))
        if len(received) > MAX_RECEIVED:
            self.end("too many QoS 2 messages without PUBREL")

    def report_fault(self, fault: bytes) -> None:
        """Tell the device of a message that became a dead letter; it may be left out."""
        if self._sink.waiting < _BUSY and not self.ended.is_set():
            for topic, _ in self.subscribed("errors"):
                self.write(PublishPacket.build(topic, fault, None, False, 0, False).to_bytes())

    def write(self, data: bytes) -> None:
        """Write without waiting; a client that never reads is cut off."""
        self._sink.write(data)
        if self._sink.waiting > MAX_WAITING:
            self.end("does not read")
            self._sink.abort()
