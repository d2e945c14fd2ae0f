"""The MQTT server: amqtt's broker, with our way of letting devices in and serving them.

amqtt keeps the listener, the table of sessions and its expiry. Nothing is broadcast from device to
device, so its broadcast queue stays empty and its scan of all subscriptions is not used. Bounds:
connections (`max_connections`, beyond which they are closed at once), sessions of a device
(`MAX_SESSIONS`; the oldest gives way) and their life without a connection (`SESSION_EXPIRY`).
"""

import asyncio
import socket
import time
from typing import Any, Final
from uuid import UUID

import structlog
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.mqtt.connack import (
    CONNECTION_ACCEPTED,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    ConnackPacket,
)
from amqtt.session import Session

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Device, Devices
from broker.ingest.batching import Part
from broker.ingest.intake import Ingest
from broker.ingest.triggers import TriggerIndex
from broker.metrics import BrokerMetrics
from broker.mqtt.auth import Authenticator, RefusedError
from broker.mqtt.chunks import MalformedPacketError
from broker.mqtt.downlink import Downlink
from broker.mqtt.protocol import CHUNK, DeviceHandler
from broker.mqtt.sessions import DeviceSession, DeviceWriter, open_session, read_connect
from broker.presence import Presence
from core.db.repositories.ingest import trigger_states
from core.db.repositories.ingest_devices import DeviceRow
from core.settings import Settings
from core.topics_acl import Topics

_log = structlog.get_logger(__name__)

CONNECT_TIMEOUT: Final = 10.0
"""Seconds a new connection has for its CONNECT."""
MAX_SESSIONS: Final = 8
SESSION_EXPIRY: Final = 3600  # seconds


class DeviceBroker(Broker):
    """The embedded MQTT broker."""

    def __init__(
        self,
        settings: Settings,
        database: IngestDatabase,
        authenticator: Authenticator,
        devices: Devices,
        triggers: TriggerIndex,
        ingest: Ingest,
        presence: Presence,
        metrics: BrokerMetrics,
    ) -> None:
        mqtt = settings.broker
        listener = ListenerConfig(type=ListenerType.TCP, bind=f"{mqtt.host}:{mqtt.port}")
        super().__init__(
            BrokerConfig(
                listeners={"default": listener},
                plugins={},
                session_expiry_interval=SESSION_EXPIRY,
            )
        )
        self._settings = mqtt
        self._database = database
        self._authenticator = authenticator
        self._devices = devices
        self._triggers = triggers
        self._ingest = ingest
        self._presence = presence
        self._metrics = metrics
        self._handlers: set[DeviceHandler] = set()
        self._arriving: set[DeviceWriter] = set()
        self._of_device: dict[UUID, list[str]] = {}
        self._stopping = False

    async def _create_server_instance(
        self,
        listener_name: str,
        listener_type: ListenerType,
        address: str | None,
        port: int,
        ssl_context: Any,
    ) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.stream_connected(reader, writer, listener_name)

        return await asyncio.start_server(
            connected,
            address,
            port,
            limit=CHUNK // 2,  # the stream holds twice this before it stops reading
            backlog=1024,
            reuse_address=True,
            ssl=ssl_context,
        )

    # --- one connection --------------------------------------------------------------------

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one connection from its first byte to its last; never raises."""
        sink = DeviceWriter(writer)
        server = self._servers.get(listener_name)
        if server is None or self._stopping or server.conn_count >= self._settings.max_connections:
            self._metrics.closed.labels("full").inc()
            sink.abort()
            return
        await server.acquire_connection()
        self._arriving.add(sink)
        try:
            await self._serve(reader, sink)
        except RefusedError as error:
            self._metrics.refused.labels(str(error.code)).inc()
            _log.info("refused", code=error.code, why=str(error), peer=sink.get_peer_info())
            sink.write(ConnackPacket.build(0, error.code).to_bytes())
        except MalformedPacketError as error:
            self._metrics.closed.labels("malformed").inc()
            _log.warning("bad CONNECT", why=str(error), peer=sink.get_peer_info())
        except TimeoutError:
            self._metrics.closed.labels("timeout").inc()
            _log.info("no CONNECT in time", peer=sink.get_peer_info())
        except (OSError, asyncio.IncompleteReadError):
            self._metrics.closed.labels("client").inc()
        except Exception:
            # One connection must not take the process along, whatever happens.
            self._metrics.closed.labels("error").inc()
            _log.exception("a connection failed", peer=sink.get_peer_info())
        finally:
            self._arriving.discard(sink)
            await sink.close()
            server.release_connection()

    async def _serve(self, reader: asyncio.StreamReader, sink: DeviceWriter) -> None:
        peer = sink.stream.get_extra_info("socket")
        if peer is not None:
            # Clients without keep-alive that vanish are noticed by TCP.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            session = open_session(await read_connect(reader))
        row = await self._authenticator.sign_in(session.username, session.password)
        will = (session.will_topic or "").encode()
        if session.will_flag and Topics(row.device_id).route(will) is None:
            raise RefusedError(NOT_AUTHORIZED, "the will's topic is not the device's")
        device = await self._enter(row)
        try:
            session = await self._session(device, session)
            handler = DeviceHandler(
                self.plugins_manager,
                reader,
                sink,
                session,
                device,
                self._ingest,
                self._metrics,
                self._settings.max_payload,
                row.credential_id,
            )
            await self._converse(device, session, handler, sink)
        finally:
            self._devices.leave(device)

    async def _enter(self, row: DeviceRow) -> Device:
        """Return the live device with its triggers as they are remembered.

        While rows of it are on their way, what memory remembers is newer than the database.
        """
        device = self._devices.enter(row)
        try:
            stored = None
            if not device.pending and not device.connections:
                stored = []
                if self._triggers.watches(device.tenant_id):
                    async with self._database.connection() as connection:
                        stored = await trigger_states(connection, device.id)
                    if device.pending or device.connections:
                        stored = None  # another connection was quicker
            self._triggers.bind(device, stored)
        except BaseException as error:
            self._devices.leave(device)
            if isinstance(error, OUTAGE):
                raise RefusedError(SERVER_UNAVAILABLE, "the database is down") from error
            raise
        return device

    async def _session(self, device: Device, wanted: DeviceSession) -> DeviceSession:
        """Return the session to use, bound to the device: no other can take it over."""
        client_id = wanted.client_id = f"{device.id}/{wanted.client_id}"
        old, handler = self._sessions.get(client_id, (None, None))
        if isinstance(handler, DeviceHandler) and not handler.ended.is_set():
            handler.end("taken over by a new connection [MQTT-3.1.4-2]")
            await handler.ended.wait()
        wanted.parent = 0
        if isinstance(old, DeviceSession) and not (wanted.clean_session or old.clean_session):
            wanted.filters, wanted.received = old.filters, old.received
            wanted.parent = 1
            old.current = None
        names = self._of_device.setdefault(device.id, [])
        if client_id in names:
            names.remove(client_id)
        names.append(client_id)
        if len(names) > MAX_SESSIONS:
            oldest = names.pop(0)
            _, handler = self._sessions.pop(oldest, (None, None))
            if isinstance(handler, DeviceHandler):
                handler.end("too many sessions of this device")
        return wanted

    async def _converse(
        self, device: Device, session: DeviceSession, handler: DeviceHandler, sink: DeviceWriter
    ) -> None:
        assert session.client_id is not None
        self._sessions[session.client_id] = (session, handler)
        session.connected(handler)
        sink.write(ConnackPacket.build(session.parent, CONNECTION_ACCEPTED).to_bytes())
        handler.downlink = Downlink(handler, self._database, self._metrics)
        self._handlers.add(handler)
        self._arriving.discard(sink)
        device.connections.add(handler)
        self._metrics.connections.inc()
        self._presence.connected(device)
        if session.filters:
            handler.downlink.subscribed()
        try:
            await handler.start()
            await self._client_message_loop(session, handler)
        finally:
            device.connections.discard(handler)
            self._handlers.discard(handler)
            self._metrics.connections.dec()
            self._bequeath(device, session, handler)
            await self._stop_handler(handler)
            if session.current is handler:
                session.disconnected(int(time.time()))
            if not device.connections:
                self._presence.disconnected(device)

    async def _client_message_loop(self, client_session: Session, handler: Any) -> None:
        """Deliver to the device until its connection ends."""
        async with asyncio.TaskGroup() as group:
            down = group.create_task(handler.downlink.run())
            await handler.ended.wait()
            down.cancel()

    def _bequeath(self, device: Device, session: DeviceSession, handler: DeviceHandler) -> None:
        """Take the will of a client that left without DISCONNECT as its last message."""
        if handler.clean or not session.will_flag or session.will_message is None:
            return
        topic = (session.will_topic or "").encode()
        route = Topics(device.id).route(topic)
        if route is not None:
            part = Part(device, None)
            part.messages = 1
            now = time.time_ns() // 1000
            self._ingest.message(part, device, route, topic, bytes(session.will_message), now)
            self._ingest.submit(part)

    # --- what amqtt asks of a broker --------------------------------------------------------

    async def _del_all_subscriptions(self, session: Session) -> None:
        """Forget a session that amqtt drops; its subscriptions are its own."""
        device = (session.client_id or "").partition("/")[0]
        names = self._of_device.get(UUID(device), [])
        if session.client_id in names:
            names.remove(session.client_id)
        if not names:
            self._of_device.pop(UUID(device), None)

    # --- the whole server ------------------------------------------------------------------

    def end_overdue(self) -> None:
        """Close connections that have been silent for too long."""
        for handler in list(self._handlers):
            if handler.overdue:
                handler.end("silent for 1.5 times its keep-alive")

    def end_credentials(self, void: set[UUID]) -> None:
        """Close the connections that signed in with these credentials."""
        for handler in list(self._handlers):
            if handler.credential_id in void:
                handler.end("its credential is void")

    @property
    def credentials(self) -> list[UUID]:
        """The credentials of all connections."""
        return [handler.credential_id for handler in self._handlers]

    def stop_arrivals(self) -> None:
        """Take no new connections."""
        self._stopping = True
        for server in self._servers.values():
            if server.instance is not None:
                server.instance.close()
        for sink in list(self._arriving):
            sink.abort()

    async def close(self) -> None:
        """Close every connection and amqtt's own tasks."""
        handlers = list(self._handlers)
        for handler in handlers:
            handler.end("the broker stops")
        if handlers:
            await asyncio.wait([asyncio.ensure_future(h.ended.wait()) for h in handlers], timeout=5)
        if self.transitions.state == "started":
            await self.shutdown()
