"""Follows the notifications for every part of an ingest process; the database is the record."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from broker.external.fleet import Fleet
from broker.metrics import BrokerMetrics
from core import bus

_log = structlog.get_logger(__name__)

_CHANNELS: Final = (
    bus.DEVICE_DOWN,
    bus.DEVICE_DISCONNECT,
    bus.DEVICE_CHANGED,
    bus.TRIGGERS_CHANGED,
    bus.PROFILES_CHANGED,
)


class Watch:
    """One subscription at Valkey, and who wants to know.

    Attributes:
        down: Set when there may be something to send to a device.
    """

    def __init__(self, valkey: Redis, metrics: BrokerMetrics) -> None:
        self._valkey = valkey
        self._metrics = metrics
        self._followers: dict[asyncio.Event, Fleet] = {}
        self.down = asyncio.Event()

    @contextmanager
    def followed(self, fleet: Fleet) -> Generator[asyncio.Event]:
        """Follow until the end of the block.

        Args:
            fleet: Told of devices that changed.

        Returns:
            Set when something is to be refreshed, or when notifications may have been missed.
        """
        due = asyncio.Event()
        self._followers[due] = fleet
        try:
            yield due
        finally:
            del self._followers[due]

    async def run(self) -> None:
        """Follow the notifications until cancelled; reconnects by itself."""
        pause = 0.1
        while True:
            try:
                async with self._valkey.pubsub() as pubsub:
                    await pubsub.subscribe(*_CHANNELS)
                    pause = 0.1
                    self._look()
                    while True:
                        message = await pubsub.get_message(
                            ignore_subscribe_messages=True, timeout=5
                        )
                        if message is not None:
                            self._told(message["channel"].decode(), message["data"].decode())
            except (RedisError, OSError, TimeoutError) as error:
                self._metrics.bus_errors.inc()
                _log.warning("Valkey cannot be followed", reason=repr(error), seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _look(self) -> None:
        self.down.set()
        for due in self._followers:
            due.set()

    def _told(self, channel: str, payload: str) -> None:
        if channel in (bus.TRIGGERS_CHANGED, bus.PROFILES_CHANGED):
            self._look()
        elif channel == bus.DEVICE_DOWN:
            self.down.set()
        else:
            try:
                device_id = UUID(payload)
            except ValueError:
                _log.warning("a notification names no device", channel=channel)
                return
            for due, fleet in self._followers.items():
                if channel == bus.DEVICE_CHANGED:
                    fleet.changed(device_id)
                    due.set()
                else:
                    fleet.forget(device_id)
