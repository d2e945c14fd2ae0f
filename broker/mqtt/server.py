"""The MQTT server: lets clients in, and keeps the table of connections.

A connection costs no task and no timer. Tasks exist while a client signs in (one each, bounded by
the connections), while something is looked up for devices (`broker.mqtt.downlink`), and one while
reading is paused. All timeouts are kept by one look at all connections a second (`sweep`).
Bounds: connections (`max_connections`, beyond which they are closed at once; those of an address
and of a tenant: `broker.mqtt.gate`, `broker.mqtt.limits`), sessions of a device
and their life without a connection (`broker.mqtt.registry`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final
from uuid import UUID

import structlog
from amqtt.mqtt.connack import BAD_USERNAME_PASSWORD, NOT_AUTHORIZED, SERVER_UNAVAILABLE

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Device
from broker.dialects.rights import ProvisionalTopics, asks_for_credentials, provisional
from broker.entrance import Entrance
from broker.ingest.batching import Part
from broker.ingest.intake import Ingest
from broker.metrics import BrokerMetrics
from broker.mqtt.auth import Authorizer, RefusedError
from broker.mqtt.chunks import Handler, Shared
from broker.mqtt.connection import Connection, State
from broker.mqtt.downlink import Downlinks
from broker.mqtt.gate import Gate
from broker.mqtt.limits import Limits, Verdict, rate_event
from broker.mqtt.listeners import Door, Listener, Listening
from broker.mqtt.packets import Wish
from broker.mqtt.registry import SESSION_EXPIRY, Sessions
from broker.mqtt.router import Router
from broker.mqtt.sessions import Session
from broker.mqtt.version5 import Version5
from broker.mqtt.voices import NativeVoice, Voice
from broker.peers import Peers
from broker.presence import Presence
from core.db.repositories.ingest_devices import DeviceRow, TenantLimitsRow
from core.settings import Settings
from core.topic_filters import valid_topic
from core.topics_acl import Rights, Route

_log = structlog.get_logger(__name__)

CONNECT_TIMEOUT: Final = 10.0
"""Seconds a new connection has for its CONNECT."""
_TIDY: Final = 60.0  # seconds between looks for limits that nobody is near
CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the last bytes to reach a client that reads slowly."""
TRANSIENT_LIFE: Final = 60.0
"""Seconds that a client which is no device may stay."""
_STALLED: Final = 3.0
"""Seconds between two sweeps after which this process, not the clients, was silent."""


class MqttServer:
    """The embedded MQTT broker.

    Attributes:
        shared: What the parsers of all connections have in common.
        handlers: Route → what becomes of its messages; the place for a further device API.
        voices: How commands and desired state are said to connections.
        on_subscribe: Told of each filter of a device's own that was subscribed to.
        clock: Seconds, for timeouts.
    """

    def __init__(
        self,
        settings: Settings,
        database: IngestDatabase,
        authorizer: Authorizer,
        entrance: Entrance,
        ingest: Ingest,
        presence: Presence,
        metrics: BrokerMetrics,
        listeners: Sequence[Listener],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.metrics = metrics
        self.queue = ingest.queue
        self.router = Router(metrics)
        self.sessions = Sessions(self.queue, self.router)
        self.downlinks = Downlinks(database, self.queue, metrics, self.spawn)
        self.voices: tuple[Voice, ...] = (NativeVoice(),)
        self.on_subscribe: list[Callable[[Connection, str], None]] = []
        self.handlers: dict[Route, Handler] = dict.fromkeys(
            (Route.ATTRIBUTES, Route.EVENTS, Route.RESPONSE), ingest.message
        )
        self.shared = Shared(ingest, self.router, self.handlers, settings.broker.max_payload)
        self.limits = Limits(settings.broker, clock)
        self._gate = Gate(
            settings.broker.address_connections,
            settings.broker.address_connects,
            settings.broker.trusted_networks,
            metrics,
            clock,
        )
        self._peers: Peers | None = None
        self._of_tenant: Counter[UUID] = Counter()
        self._limit = settings.broker.max_connections
        self._database = database
        self._authorizer = authorizer
        self._entrance = entrance
        self._ingest = ingest
        self._presence = presence
        self._listeners = listeners
        self._servers: list[Listening] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._count = 0
        self._arriving: set[Connection] = set()
        self._open: set[Connection] = set()
        self._closing: dict[Connection, float] = {}
        self._transient: dict[Connection, float] = {}
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._held: dict[Connection, None] = {}
        self._resuming = False
        self._stopping = False
        self._swept = self._tidied = clock()

    async def start(self, group: asyncio.TaskGroup, peers: Peers | None = None) -> None:
        """Load what is remembered and listen; short tasks run in the group until `close`.

        Args:
            group: Where tasks run.
            peers: The other broker processes, if clients may come from one to another.
        """
        self._group = group
        self._peers = peers
        await self.sessions.load(self._database)
        door = Door(self._accept, self.spawn, self._gate.knock)
        self._servers = [await listen(door) for listen in self._listeners]

    def _accept(self) -> Connection:
        return Connection(self)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a short task until `close`."""
        assert self._group is not None
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def translator(self) -> Version5:
        """Return what stands between this server and a client of MQTT 5."""
        return Version5(self.shared.max_payload, int(SESSION_EXPIRY))

    # --- told by connections ---------------------------------------------------------------

    def arrived(self, connection: Connection) -> None:
        """A connection was made."""
        self._count += 1
        knocked = connection.secure or self._gate.knock(connection.host)
        self._gate.opened(connection.host)
        if self._stopping or self._count > self._limit or not knocked:
            self.metrics.closed.labels("full" if knocked else "limit").inc()
            connection.state = State.CLOSED
            connection.abort()
        else:
            self._arriving.add(connection)

    def sign_in(self, connection: Connection, wish: Wish) -> None:
        """A client sent its CONNECT."""
        self.spawn(self._sign_in(connection, wish))

    def refused(self, connection: Connection, error: RefusedError) -> None:
        """A client cannot come in."""
        self.metrics.refused.labels(str(error.code)).inc()
        _log.info("refused", code=error.code, why=str(error), peer=connection.peer)
        connection.refuse(error.code)

    def held_back(self, connection: Connection) -> None:
        """Reading from an open connection has been paused: the database cannot keep up."""
        self._held[connection] = None
        if not self._resuming:
            self._resuming = True
            self.spawn(self._resume())

    def subscribed(self, connection: Connection, own: list[str]) -> None:
        """A client subscribed to topics of the device API."""
        self.downlinks.subscribed(connection)
        for child in connection.family or ():
            self.downlinks.subscribed(child)
        for topic_filter in own:
            for act in self.on_subscribe:
                act(connection, topic_filter)

    def slowed(self, connection: Connection, verdict: Verdict) -> None:
        """An open connection is over a rate: it is not read for a while."""
        self.metrics.slowed.labels(verdict.scope).inc()
        asyncio.get_running_loop().call_later(verdict.wait, connection.go_on)
        if verdict.tell:
            device = connection.device
            _log.info("slowed", device_id=str(device.id), whose=verdict.scope)
            part = Part(device, None)
            part.effect().events.append(rate_event(device, verdict))
            self.queue.put(part)

    def left(self, connection: Connection) -> None:
        """An open connection has ended; its will is due unless it said DISCONNECT."""
        self._open.discard(connection)
        transient = self._transient.pop(connection, None) is not None
        self._held.pop(connection, None)
        self.metrics.connections.dec()
        self.limits.done(connection.meter)
        device, session = connection.device, connection.session
        device.connections.discard(connection)
        self._of_tenant[device.tenant_id] -= 1
        if not self._of_tenant[device.tenant_id]:
            del self._of_tenant[device.tenant_id]
        if session.current is connection:
            self.sessions.left(session)
        if not self._stopping:
            self._bequeath(connection)
        if connection.family is not None:
            connection.family.close()
        if not device.connections and not transient:
            self._presence.disconnected(device)
        self._entrance.leave([device])

    def closing(self, connection: Connection) -> None:
        """A connection is being closed from here; its last bytes have a moment to leave."""
        self._arriving.discard(connection)
        self._quiet.clear()
        self._closing[connection] = self.clock() + CLOSE_TIMEOUT

    def gone(self, connection: Connection) -> None:
        """The transport of a connection is closed."""
        self._count -= 1
        self._gate.closed(connection.host)
        self._arriving.discard(connection)
        self._closing.pop(connection, None)
        if not self._closing:
            self._quiet.set()

    # --- signing in ------------------------------------------------------------------------

    async def _sign_in(self, connection: Connection, wish: Wish) -> None:
        try:
            await self._let_in(connection, wish)
        except RefusedError as error:
            if error.code == BAD_USERNAME_PASSWORD:
                self._gate.failed(connection.host)
            self.refused(connection, error)
        except Exception:
            # One connection must not take the process along, whatever happens.
            _log.exception("a sign-in failed", peer=connection.peer)
            connection.end("unexpected error")

    async def _let_in(self, connection: Connection, wish: Wish) -> None:
        wait = self._gate.wait(connection.host)
        if wait:
            await asyncio.sleep(wait)
            if connection.state is not State.SIGNING_IN:
                return
        if Route.PROVISION in self.handlers and asks_for_credentials(wish.username, wish.password):
            row, rights = provisional(), ProvisionalTopics()
            wish = wish._replace(clean=True, will=None)
        else:
            row = await self._authorizer.sign_in(
                wish.username, wish.password, connection.certificate
            )
            rights = self._authorizer.rights(row)
        _check_will(rights, wish)
        self._check_room(row)
        await self._take_over(row.device_id, wish.client_id)
        device = await self._enter(row)
        self._admit(connection, wish, row, rights, device)

    async def _take_over(self, device_id: UUID, client_id: str) -> None:
        """Get a client's session from the broker process that has it, if any other does."""
        if self._peers is None or not await self._peers.claim(device_id, client_id):
            return
        try:
            await self.sessions.fetch(self._database, device_id, client_id)
        except OUTAGE as error:
            raise RefusedError(SERVER_UNAVAILABLE, "the database is down") from error

    async def release(self, names: Sequence[tuple[UUID, str]]) -> None:
        """Let another broker process have clients, by device and client id.

        It returns when all that they sent here is committed.
        """
        here = [self._entrance.device(device_id) for device_id, _ in names]
        sessions = [session for name in names if (session := self.sessions.find(*name))]
        for session in sessions:
            if isinstance(session.current, Connection):
                session.current.end("taken over at another broker process [MQTT-3.1.4-2]")
            if not session.ended:
                self.sessions.forget(session)
        if sessions or any(here):
            committed = asyncio.Event()
            part = Part(None, None)
            part.then(committed.set)  # it follows all that is on its way
            self.queue.put(part)
            await committed.wait()

    def _check_room(self, row: DeviceRow) -> None:
        """Refuse a device that has no connection yet when its tenant has too many."""
        if self._of_tenant[row.tenant_id] < self.limits.connections(row.tenant_id):
            return
        here = self._entrance.device(row.device_id)
        if here is None or not here.connections:
            self.metrics.turned_away.labels("tenant_connections").inc()
            raise RefusedError(SERVER_UNAVAILABLE, "the tenant has too many connections")

    async def _enter(self, row: DeviceRow) -> Device:
        try:
            (device,) = await self._entrance.enter([row])
        except OUTAGE as error:
            raise RefusedError(SERVER_UNAVAILABLE, "the database is down") from error
        return device

    def _admit(
        self,
        connection: Connection,
        wish: Wish,
        row: DeviceRow,
        rights: Rights,
        device: Device,
    ) -> None:
        if connection.state is not State.SIGNING_IN or self._stopping:
            self._entrance.leave([device])
            return
        part = Part(None, None)
        space = self.router.space(row.tenant_id)
        session, present = self.sessions.enter(row, rights, wish, space, part)

        def welcome() -> None:
            self._welcome(connection, wish, row, rights, device, session, present)

        if part.effects is None:
            welcome()
        else:
            part.then(welcome)  # the CONNACK of a lasting session means that it is stored
            self.queue.put(part)

    def _welcome(
        self,
        connection: Connection,
        wish: Wish,
        row: DeviceRow,
        rights: Rights,
        device: Device,
        session: Session,
        present: bool,
    ) -> None:
        if session.ended:
            connection.end("taken over while it signed in")
        if connection.state is not State.SIGNING_IN:
            self._entrance.leave([device])
            if not session.ended and session.current is None:
                self.sessions.left(session)
            return
        if isinstance(session.current, Connection):
            session.current.end("taken over by a new connection [MQTT-3.1.4-2]")
        self._arriving.discard(connection)
        self._open.add(connection)
        self._of_tenant[device.tenant_id] += 1
        connection.meter = self.limits.meter(device)
        self.metrics.connections.inc()
        device.connections.add(connection)
        if row.transient:
            self._transient[connection] = self.clock() + TRANSIENT_LIFE
        else:
            self._presence.connected(device)
        connection.open(device, row.credential_id, session, rights, wish, present=present)
        if session.filters and len(session.filters) > len(session.shared):
            self.downlinks.subscribed(connection)

    def _bequeath(self, connection: Connection) -> None:
        """Publish the will of a client that left without DISCONNECT."""
        will = connection.will
        if will is None:
            return
        part = Part(connection.device, connection)
        part.messages = 1
        connection.parser.take(part, will.topic, will.payload, will.qos, retain=will.retain)
        self._ingest.submit(part)

    # --- the whole server ------------------------------------------------------------------

    async def _resume(self) -> None:
        """Go on reading where it was paused, as long as the queue takes more."""
        try:
            while self._held:
                await self.queue.admitted()
                while self._held and self.queue.admitting:
                    connection = next(iter(self._held))
                    del self._held[connection]
                    connection.resume()
        finally:
            self._resuming = False

    def sweep(self) -> None:
        """Close what has been silent, or at its end, for too long."""
        now = self.clock()
        stalled = now - self._swept > _STALLED  # what clients sent meanwhile is not read yet
        self._swept = now
        if stalled:
            return
        for connection in [c for c, until in self._closing.items() if until < now]:
            connection.abort()
        for connection in [c for c in self._arriving if c.state is State.NEW]:
            if now - connection.began > CONNECT_TIMEOUT:
                self.metrics.closed.labels("timeout").inc()
                connection.end("no CONNECT in time")
        for connection in [c for c, until in self._transient.items() if until < now]:
            connection.end("no device, and here for too long")
        if self.queue.admitting:
            for connection in [c for c in self._open if c.overdue(now)]:
                connection.end("silent for 1.5 times its keep-alive")
        self.sessions.expire(shared=self._peers is not None and self._peers.shared)
        if now - self._tidied > _TIDY:
            self._tidied = now
            self.limits.forget()

    def take_limits(self, rows: Sequence[TenantLimitsRow]) -> None:
        """Take over what tenants' configurations say about limits."""
        if self.limits.load(rows):
            for connection in self._open:
                self.limits.done(connection.meter)
                connection.meter = self.limits.meter(connection.device)

    def end_credentials(self, void: set[UUID]) -> None:
        """Close the connections that signed in with these credentials."""
        for connection in [c for c in self._open if c.credential_id in void]:
            connection.end("its credential is void")

    @property
    def credentials(self) -> list[UUID]:
        """The credentials of all devices' connections."""
        return [c.credential_id for c in self._open if c not in self._transient]

    def stop_arrivals(self) -> None:
        """Take no new connections."""
        self._stopping = True
        for server in self._servers:
            server.close()
        for connection in list(self._arriving):
            connection.end("the broker stops")

    async def close(self) -> None:
        """Close every connection and end the tasks; wills stay unpublished at an orderly stop."""
        for connection in list(self._open):
            connection.end("the broker stops")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._quiet.wait()
        except TimeoutError:
            for connection in list(self._closing):
                connection.abort()
        for task in list(self._tasks):
            task.cancel()


def _check_will(rights: Rights, wish: Wish) -> None:
    topic = None if wish.will is None else wish.will.topic
    if topic is None:
        return
    # A will of ThingsBoard's could need to wait, for which there is no connection any more.
    routes = (None, Route.THINGSBOARD, Route.PROVISION)
    if valid_topic(topic) is None or rights.route(topic) in routes:
        raise RefusedError(NOT_AUTHORIZED, "the will's topic is not the client's")
