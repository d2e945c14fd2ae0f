"""Down to the device: commands and the desired twin. The database is the record of both."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.mqtt.connection import State
from core.db.repositories.ingest_devices import (
    CommandRow,
    desired,
    devices_with_downlink,
    mark_sent,
    open_commands,
)

if TYPE_CHECKING:
    from broker.metrics import BrokerMetrics
    from broker.mqtt.connection import Connection

_log = structlog.get_logger(__name__)

_WORKERS: Final = 3  # at once, so that a storm of reconnects leaves connections to the flushers
_ASKED: Final = 500  # devices in one query
_AT_ONCE: Final = 50  # commands sent before their PUBACKs are awaited
_REMEMBERED: Final = 1000  # commands sent on one connection
_PAUSE: Final = 1.0  # seconds after a failure of the database
_encode: Final = msgspec.json.Encoder().encode


class Downlink:
    """What one connection has been sent.

    A command is sent once a connection, and again when the device comes back or subscribes again,
    until it is answered or expires. The desired twin is sent when the device subscribes and when
    its version has changed.

    Attributes:
        sent: Commands, oldest first.
        desired: Version of the twin.
        fresh: The subscription is new, so the twin is sent as a retained message.
        unacknowledged: PUBACKs that are due.
        more: There may be more commands, once half of these are acknowledged.
        busy, again: It is being looked after; and was woken meanwhile.
    """

    __slots__ = ("again", "busy", "desired", "fresh", "more", "sent", "unacknowledged")

    def __init__(self) -> None:
        self.sent: OrderedDict[UUID, None] = OrderedDict()
        self.desired: int | None = None
        self.fresh = True
        self.unacknowledged = 0
        self.more = self.busy = self.again = False

    def acknowledged(self) -> bool:
        """Count a PUBACK; tell whether there may be more to send now."""
        self.unacknowledged -= 1
        return self.more and self.unacknowledged <= _AT_ONCE // 2

    def remember(self, command_id: UUID) -> None:
        """Note a command as sent."""
        self.sent[command_id] = None
        if len(self.sent) > _REMEMBERED:
            self.sent.popitem(last=False)


class Downlinks:
    """Delivers to the connections that were woken, a few at a time.

    There is no queue to fill: a connection is in the set of those due or it is not, however often
    it is woken. Workers exist only while there is something to do.
    """

    def __init__(
        self,
        database: IngestDatabase,
        metrics: BrokerMetrics,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._spawn = spawn
        self._due: dict[Connection, None] = {}
        self._workers = 0

    def wake(self, connection: Connection) -> None:
        """There may be something new for a connection."""
        if connection.downlink is None or connection.state is not State.OPEN:
            return  # it has subscribed to nothing of this
        self._due[connection] = None
        if self._workers < _WORKERS:
            self._workers += 1
            self._spawn(self._work())

    def subscribed(self, connection: Connection) -> None:
        """The device subscribed: what is open is sent again."""
        link = connection.downlink
        if link is None:
            link = connection.downlink = Downlink()
        link.sent.clear()
        link.desired, link.fresh = None, True
        self.wake(connection)

    async def _work(self) -> None:
        try:
            while self._due:
                taken = list(self._due)[:_ASKED]
                for connection in taken:
                    del self._due[connection]
                try:
                    await self._look(taken)
                except OUTAGE as error:
                    _log.warning("delivery waits for the database", reason=repr(error))
                    self._due.update(dict.fromkeys(taken))
                    await asyncio.sleep(_PAUSE)
        finally:
            self._workers -= 1

    async def _look(self, connections: list[Connection]) -> None:
        here = [c for c in connections if c.state is State.OPEN]
        async with self._database.connection() as database:
            waiting = await devices_with_downlink(database, [c.device.id for c in here])
        for connection in here:
            link = connection.downlink
            if link is None or connection.device.id not in waiting:
                continue
            if link.busy:
                link.again = True
                continue
            link.busy = True
            try:
                await self._send_desired(connection, link)
                await self._send_commands(connection, link)
            finally:
                link.busy = False
                if link.again:
                    link.again = False
                    self._due[connection] = None

    async def _send_desired(self, connection: Connection, link: Downlink) -> None:
        if not connection.subscribed("attributes/desired"):
            return
        async with self._database.connection() as database:
            twin = await desired(database, connection.device.id)
        if twin is None or twin.version == link.desired:
            return
        # Set only for a new subscription [MQTT-3.3.1-8, -9]; a change goes out as it happens.
        retain, link.fresh = link.fresh, False
        link.desired = twin.version
        for topic, qos in connection.subscribed("attributes/desired"):
            self._publish(connection, link, topic, twin.state.encode(), qos, retain=retain)

    async def _send_commands(self, connection: Connection, link: Downlink) -> None:
        while connection.hears_commands and connection.state is State.OPEN:
            link.more = link.unacknowledged >= _AT_ONCE
            if link.more:
                return  # its PUBACKs wake it
            async with self._database.connection() as database:
                commands = await open_commands(
                    database, connection.device.id, list(link.sent), _AT_ONCE
                )
            if not commands or connection.state is not State.OPEN:
                return
            handed: list[UUID] = []
            for command in commands:
                link.remember(command.command_id)
                targets = connection.subscribed(f"commands/{command.name}")
                for topic, qos in targets:
                    self._publish(connection, link, topic, _body(command), qos)
                if targets:
                    handed.append(command.command_id)
            if handed:
                self._metrics.commands_sent.inc(len(handed))
                async with self._database.connection() as database:
                    await mark_sent(database, handed)
            if len(commands) < _AT_ONCE or len(link.sent) >= _REMEMBERED:
                return

    @staticmethod
    def _publish(
        connection: Connection,
        link: Downlink,
        topic: str,
        payload: bytes,
        qos: int,
        *,
        retain: bool = False,
    ) -> None:
        """Send at the lower of the two QoS: ours is 1."""
        level = min(qos, 1)
        link.unacknowledged += level
        connection.send(topic, payload, level, retain=retain)


def _body(command: CommandRow) -> bytes:
    payload = msgspec.Raw(command.payload.encode())
    return _encode({"id": str(command.command_id), "payload": payload})
