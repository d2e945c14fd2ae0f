"""What the broker tells others over Valkey, after it has been committed.

Notifications are kept in a bounded queue and sent by one task, so that a slow or absent Valkey
never holds up ingest: when the queue is full the oldest are dropped, which loses no data.

Measurements that nobody listens to are not even encoded. Valkey is asked who listens to a device,
for `_TRUSTED` seconds; who begins to listen says so (`bus.LISTENING`), so that nothing is missed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from broker.devices import Device
from broker.ingest.batching import Point
from broker.ingest.quality import by_name
from broker.metrics import BrokerMetrics
from core import bus

_log = structlog.get_logger(__name__)

_MAX_WAITING: Final = 2_000  # notifications; one of telemetry carries a whole part
_PAUSE: Final = 1.0  # seconds after a failure
_TRUSTED: Final = 1.0
_REMEMBERED: Final = 50_000  # devices


class _LivePoint(msgspec.Struct, gc=False, omit_defaults=True):
    device_id: str
    timestamp: datetime
    metrics: Mapping[str, float | None]
    quality: Mapping[str, int] | None = None


_encode: Final = msgspec.json.Encoder().encode
_Notification = tuple[Device, list[Point]] | tuple[str, bytes]


class Notifier:
    """Publishes notifications in the order they were given."""

    def __init__(self, valkey: Redis, metrics: BrokerMetrics) -> None:
        self._valkey = valkey
        self._metrics = metrics
        self._waiting: deque[_Notification] = deque(maxlen=_MAX_WAITING)
        self._arrived = asyncio.Event()
        self._deaf: dict[UUID, float] = {}  # until when nobody is taken to listen

    def listening(self, device_id: UUID) -> None:
        """Somebody begins to listen to a device."""
        self._deaf.pop(device_id, None)

    def telemetry(self, device: Device, points: list[Point]) -> None:
        """Tell of stored measurements."""
        self._put((device, points))

    def outbox(self) -> None:
        """Tell the relay that there is something in the outbox."""
        self._put((bus.OUTBOX, b""))

    def answered(self, commands: Iterable[UUID]) -> None:
        """Tell who waits for the answers to commands."""
        for command_id in commands:
            self._put((bus.command_answered(command_id), b""))

    def presence(self, tenant_id: UUID, device_id: UUID, *, online: bool, at: datetime) -> None:
        """Tell dashboards that a device came or went."""
        event = {
            "type": "presence",
            "device_id": str(device_id),
            "status": "online" if online else "offline",
            "at": at,
        }
        self._put((bus.dashboard(tenant_id), _encode(event)))

    def _put(self, notification: _Notification) -> None:
        if len(self._waiting) == _MAX_WAITING:
            self._metrics.bus_dropped.inc()
        self._waiting.append(notification)
        self._arrived.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._arrived.wait()
            try:
                await self.flush()
            except (RedisError, OSError, TimeoutError) as error:
                self._metrics.bus_errors.inc()
                _log.warning("notifications were lost: Valkey does not answer", reason=repr(error))
                await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Publish what waits, in one round trip.

        Raises:
            RedisError: Valkey cannot be reached; these notifications are lost.
        """
        self._arrived.clear()
        taken = list(self._waiting)
        self._waiting.clear()
        if not taken:
            return
        measured: dict[Device, list[list[Point]]] = {}
        async with self._valkey.pipeline(transaction=False) as pipeline:
            for notification in taken:
                match notification:
                    case (Device() as device, list() as points):
                        measured.setdefault(device, []).append(points)
                    case (str() as channel, bytes() as payload):
                        pipeline.publish(channel, payload)
            for device in await self._heard(list(measured)):
                name = str(device.id)
                items = [
                    _LivePoint(
                        name,
                        _instant(at),
                        values,
                        None if quality is None else by_name(values, quality),
                    )
                    for points in measured[device]
                    for at, values, _, quality in points
                ]
                pipeline.publish(bus.telemetry(device.id), _encode(items))
            await pipeline.execute()

    async def _heard(self, devices: list[Device]) -> list[Device]:
        """Return the devices that somebody listens to."""
        now = time.monotonic()
        unsure = [device for device in devices if self._deaf.get(device.id, 0.0) <= now]
        if not unsure:
            return []
        counts = await self._valkey.pubsub_numsub(*(bus.telemetry(d.id) for d in unsure))
        if len(self._deaf) > _REMEMBERED:
            self._deaf.clear()
        heard: list[Device] = []
        for device, (_, listeners) in zip(unsure, counts, strict=True):
            if listeners:
                heard.append(device)
            else:
                self._deaf[device.id] = now + _TRUSTED
        return heard


def _instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
