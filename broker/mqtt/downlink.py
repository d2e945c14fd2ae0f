"""Down to the device: commands and the desired twin. The database is the record of both."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
import structlog

from broker.database import OUTAGE, IngestDatabase
from core.db.repositories.ingest_devices import CommandRow, desired, mark_sent, open_commands

if TYPE_CHECKING:
    from broker.metrics import BrokerMetrics
    from broker.mqtt.protocol import DeviceHandler

_log = structlog.get_logger(__name__)

_AT_ONCE: Final = 50  # commands sent before their PUBACKs are awaited
_REMEMBERED: Final = 1000  # commands sent on this connection
_PAUSE: Final = 1.0  # seconds after a failure of the database
_encode: Final = msgspec.json.Encoder().encode


class Downlink:
    """Delivers to one connection, one look at the database at a time.

    There is no queue to fill: however often it is woken meanwhile, it looks once more. A command
    is sent once a connection, and again when the device comes back or subscribes again, until it
    is answered or expires. The desired twin is sent when the device subscribes and when its
    version has changed.
    """

    def __init__(
        self, handler: DeviceHandler, database: IngestDatabase, metrics: BrokerMetrics
    ) -> None:
        self._handler = handler
        self._database = database
        self._metrics = metrics
        self._woken = asyncio.Event()
        self._sent: OrderedDict[UUID, None] = OrderedDict()
        self._desired: int | None = None
        self._fresh = True

    def wake(self) -> None:
        """There may be something new."""
        self._woken.set()

    def subscribed(self) -> None:
        """The device subscribed: what is open is sent again."""
        self._sent.clear()
        self._desired = None
        self._fresh = True
        self._woken.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._send_desired()
                await self._send_commands()
            except OUTAGE as error:
                _log.warning("delivery waits for the database", reason=repr(error))
                self._woken.set()
                await asyncio.sleep(_PAUSE)

    async def _send_desired(self) -> None:
        targets = self._handler.subscribed("attributes/desired")
        if not targets:
            return
        async with self._database.connection() as connection:
            twin = await desired(connection, self._handler.device.id)
        if twin is None or twin.version == self._desired:
            return
        # Set only for a new subscription [MQTT-3.3.1-8, -9]; a change goes out as it happens.
        retain, self._fresh = self._fresh, False
        self._desired = twin.version
        async with asyncio.TaskGroup() as group:
            for topic, qos in targets:
                group.create_task(self._publish(topic, twin.state.encode(), qos, retain=retain))

    async def _send_commands(self) -> None:
        device_id = self._handler.device.id
        if not self._handler.hears_commands:
            return
        for _ in range(_REMEMBERED // _AT_ONCE):
            async with self._database.connection() as connection:
                commands = await open_commands(connection, device_id, list(self._sent), _AT_ONCE)
            ready = [(c, self._handler.subscribed(f"commands/{c.name}")) for c in commands]
            if not ready:
                return
            async with asyncio.TaskGroup() as group:
                for command, targets in ready:
                    self._remember(command.command_id)
                    for topic, qos in targets:
                        group.create_task(self._publish(topic, _body(command), qos))
                handed = [command.command_id for command, targets in ready if targets]
                if handed:
                    self._metrics.commands_sent.inc(len(handed))
                    async with self._database.connection() as connection:
                        await mark_sent(connection, handed)

    def _remember(self, command_id: UUID) -> None:
        self._sent[command_id] = None
        if len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)

    async def _publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Send at the lower of the two QoS: ours is 1."""
        try:
            await self._handler.mqtt_publish(topic, payload, min(qos, 1), retain)
        except TimeoutError:
            _log.info("not acknowledged by the device", topic=topic)


def _body(command: CommandRow) -> bytes:
    payload = msgspec.Raw(command.payload.encode())
    return _encode({"id": str(command.command_id), "payload": payload})
