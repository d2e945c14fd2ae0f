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
from broker.ingest.batching import IngestQueue, Part
from broker.mqtt.voices import Message, Receiver, UndeliverableError, Voice
from core.db.repositories.ingest import ResponseRow
from core.db.repositories.ingest_devices import (
    CommandRow,
    desired,
    devices_with_downlink,
    mark_sent,
    open_commands,
)

if TYPE_CHECKING:
    from broker.metrics import BrokerMetrics

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
        desired: Version of the twin; 0 when it had none at the first look.
        state: The desired state, for those who are told of changes only.
        fresh: The subscription is new, so the twin is sent as a retained message.
        unacknowledged: PUBACKs that are due.
        more: There may be more commands, once half of these are acknowledged.
        busy, again: It is being looked after; and was woken meanwhile.
    """

    __slots__ = ("again", "busy", "desired", "fresh", "more", "sent", "state", "unacknowledged")

    def __init__(self) -> None:
        self.sent: OrderedDict[UUID, None] = OrderedDict()
        self.desired: int | None = None
        self.state: dict[str, Any] = {}
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
        queue: IngestQueue,
        metrics: BrokerMetrics,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._database = database
        self._queue = queue
        self._metrics = metrics
        self._spawn = spawn
        self._due: dict[Receiver, None] = {}
        self._workers = 0

    def wake(self, receiver: Receiver) -> None:
        """There may be something new for a connection, or for a device behind one."""
        if receiver.downlink is None or not receiver.alive:
            return  # it has subscribed to nothing of this
        self._due[receiver] = None
        if self._workers < _WORKERS:
            self._workers += 1
            self._spawn(self._work())

    def subscribed(self, receiver: Receiver) -> None:
        """The device subscribed: what is open is sent again."""
        link = receiver.downlink
        if link is None:
            link = receiver.downlink = Downlink()
        link.sent.clear()
        link.desired, link.fresh, link.state = None, True, {}
        self.wake(receiver)

    async def _work(self) -> None:
        try:
            while self._due:
                taken = list(self._due)[:_ASKED]
                for receiver in taken:
                    del self._due[receiver]
                try:
                    await self._look(taken)
                except OUTAGE as error:
                    _log.warning("delivery waits for the database", reason=repr(error))
                    self._due.update(dict.fromkeys(taken))
                    await asyncio.sleep(_PAUSE)
        finally:
            self._workers -= 1

    async def _look(self, receivers: list[Receiver]) -> None:
        here = [receiver for receiver in receivers if receiver.alive]
        async with self._database.connection() as database:
            waiting = await devices_with_downlink(database, [r.device.id for r in here])
        for receiver in here:
            link = receiver.downlink
            if link is None:
                continue
            if receiver.device.id not in waiting:
                link.desired = link.desired or 0
                continue
            if link.busy:
                link.again = True
                continue
            link.busy = True
            try:
                await self._send_desired(receiver, link)
                await self._send_commands(receiver, link)
            finally:
                link.busy = False
                if link.again:
                    link.again = False
                    self._due[receiver] = None

    async def _send_desired(self, receiver: Receiver, link: Downlink) -> None:
        voices = [voice for voice in receiver.voices if voice.hears_desired(receiver)]
        if not voices:
            return
        async with self._database.connection() as database:
            twin = await desired(database, receiver.device.id)
        if twin is None or twin.version == link.desired:
            return
        first = link.desired is None
        # Set only for a new subscription [MQTT-3.3.1-8, -9]; a change goes out as it happens.
        retain, link.fresh = link.fresh, False
        link.desired = twin.version
        for voice in voices:
            said = voice.desired(receiver, link, twin, first=first, retain=retain)
            self._publish(receiver, link, said)

    async def _send_commands(self, receiver: Receiver, link: Downlink) -> None:
        while receiver.alive:
            voices = [voice for voice in receiver.voices if voice.hears_commands(receiver)]
            if not voices:
                return
            link.more = link.unacknowledged >= _AT_ONCE
            if link.more:
                return  # its PUBACKs wake it
            async with self._database.connection() as database:
                commands = await open_commands(
                    database, receiver.device.id, list(link.sent), _AT_ONCE
                )
            if not commands or not receiver.alive:
                return
            handed = [c.command_id for c in commands if self._command(receiver, link, voices, c)]
            if handed:
                self._metrics.commands_sent.inc(len(handed))
                async with self._database.connection() as database:
                    await mark_sent(database, handed)
            if len(commands) < _AT_ONCE or len(link.sent) >= _REMEMBERED:
                return

    def _command(
        self, receiver: Receiver, link: Downlink, voices: list[Voice], command: CommandRow
    ) -> bool:
        """Send a command; tell whether the device listens for it."""
        link.remember(command.command_id)
        sent = False
        for voice in voices:
            try:
                said = voice.command(receiver, command)
            except UndeliverableError as error:
                self._refuse(receiver, command, str(error))
                continue
            self._publish(receiver, link, said)
            sent = sent or bool(said)
        return sent

    def _refuse(self, receiver: Receiver, command: CommandRow, why: str) -> None:
        """Answer a command in the device's place, so that nobody waits for its answer."""
        part = Part(receiver.device, None)
        response = _encode({"error": why}).decode()
        part.effect().responses.append(
            ResponseRow(command.command_id, receiver.device.id, response)
        )
        self._queue.put(part)

    @staticmethod
    def _publish(receiver: Receiver, link: Downlink, messages: list[Message]) -> None:
        """Send at the lower of the two QoS: ours is 1."""
        for message in messages:
            receiver.send(
                message.topic, message.payload, min(message.qos, 1), retain=message.retain
            )
