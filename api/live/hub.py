"""The one reader of the bus in this process; hands every message to those who asked for it."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from api.live import frames
from api.live.frames import Channel
from api.live.outlet import Outlet
from core import bus

_HOME = "iotlinker:hub"
"""Nothing is published here; subscribing to it keeps the connection in its subscribed state."""
_READ = 5.0  # seconds; below the client's own socket timeout
_CONFIRM = 2.0  # seconds to wait for Valkey's confirmation
_BACK_OFF = (0.05, 2.0)  # seconds, first and longest

logger = structlog.get_logger(__name__)

Listeners = dict[Channel, dict[Outlet, None]]


class Hub:
    """Fans messages of the bus out to WebSocket clients.

    Invariants:
        1. `_listeners` is what is wanted; it alone decides what a new connection subscribes to.
        2. A bus channel is in `_confirmed` only while Valkey has confirmed it on this connection.
        3. Nothing here waits for a client.
    """

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey
        self._pubsub: PubSub | None = None
        self._listeners: dict[str, Listeners] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._wire = asyncio.Lock()
        self._closing = False

    def close(self) -> None:
        """Let `run` end; cancel its task after this.

        Cancelling alone is not enough: before Python 3.12 `asyncio.wait_for`, with which the
        client writes, can swallow a cancellation, and `run` would then read on for ever.
        """
        self._closing = True

    async def run(self) -> None:
        """Read until closed; connects again, and subscribes to everything again, on failure."""
        wait = _BACK_OFF[0]
        while not self._closing:
            pubsub = self._valkey.pubsub()
            try:
                self._pubsub = pubsub
                await pubsub.subscribe(_HOME, *self._listeners)
                while not self._closing:
                    message = await pubsub.get_message(timeout=_READ)
                    wait = _BACK_OFF[0]
                    if message is not None:
                        self._handle(message)
            except (RedisError, OSError, TimeoutError) as error:
                logger.warning("live.bus_lost", error=str(error), retry_in=wait)
            finally:
                self._pubsub = None
                for confirmed in self._confirmed.values():
                    confirmed.clear()
                with suppress(RedisError, OSError, TimeoutError):  # it is broken already
                    await pubsub.aclose()
            await asyncio.sleep(wait)
            wait = min(wait * 2, _BACK_OFF[1])

    async def subscribe(self, bus_channel: str, channel: Channel, outlet: Outlet) -> None:
        """Send what is published on `bus_channel` to `outlet` from now on.

        While Valkey is down this only records the wish, which the next connection fulfils.
        """
        self._listeners.setdefault(bus_channel, {}).setdefault(channel, {})[outlet] = None
        if bus_channel not in self._confirmed:
            self._confirmed[bus_channel] = asyncio.Event()
            await self._settle(bus_channel)
        confirmed = self._confirmed.get(bus_channel)
        if confirmed is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CONFIRM):
                    await confirmed.wait()

    async def announce(self, devices: Iterable[UUID]) -> None:
        """Tell the brokers that somebody listens to devices now; without this, a second later."""
        with suppress(RedisError, OSError, TimeoutError):  # they will find out by themselves
            async with self._valkey.pipeline(transaction=False) as pipeline:
                for device_id in devices:
                    pipeline.publish(bus.LISTENING, str(device_id))
                await pipeline.execute()

    async def unsubscribe(self, bus_channel: str, channel: Channel, outlet: Outlet) -> None:
        """Send nothing more of it."""
        wanted = self._listeners.get(bus_channel)
        if wanted is None or outlet not in wanted.get(channel, {}):
            return
        del wanted[channel][outlet]
        if not wanted[channel]:
            del wanted[channel]
        if not wanted:
            del self._listeners[bus_channel]
            self._confirmed.pop(bus_channel, None)
            await self._settle(bus_channel)

    async def _settle(self, bus_channel: str) -> None:
        # One at a time, and by what is wanted now: a subscription and the end of another to the
        # same channel would otherwise overtake each other on their way to Valkey.
        async with self._wire:
            if self._pubsub is None:
                return
            with suppress(RedisError, OSError, TimeoutError):  # `run` meets it too, and reconnects
                if bus_channel in self._listeners:
                    await self._pubsub.subscribe(bus_channel)
                else:
                    await self._pubsub.unsubscribe(bus_channel)

    def _handle(self, message: dict[str, Any]) -> None:
        bus_channel = message["channel"].decode()
        if message["type"] == "subscribe":
            if (confirmed := self._confirmed.get(bus_channel)) is not None:
                confirmed.set()
        elif message["type"] == "message":
            for channel, outlets in self._listeners.get(bus_channel, {}).items():
                bundle = frames.Bundle(channel, message["data"])
                for outlet in outlets:
                    outlet.offer(bundle)
