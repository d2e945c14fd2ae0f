"""Taking clients over from the other broker processes.

Before a client is let in here, the others are told over Valkey. Whoever has its session, or a
connection of it, ends the connection, commits what it took, forgets the session, and says so; then
the session and the states of triggers are read from the database, as they were left.

A process that does not answer within `PATIENCE` is not waited for: a sign-in must not depend on
it, nor on Valkey. Its connection then ends when it notices, or by the keep-alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from broker.instance import Instance
from broker.lookups import Lookups
from broker.metrics import BrokerMetrics
from core import bus

_log = structlog.get_logger(__name__)

PATIENCE: Final = 3.0
"""Seconds for the others to let go."""

Name = tuple[UUID, str]
"""Device and client id."""
Release = Callable[[Sequence[Name]], Awaitable[None]]
"""Ends the connections of these clients, commits what they sent, and forgets their sessions."""


class _Claim(msgspec.Struct):
    sender: UUID
    number: int
    names: list[Name]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Claim).decode


class Peers:
    """The other broker processes."""

    def __init__(
        self,
        valkey: Redis,
        instance: Instance,
        release: Release,
        metrics: BrokerMetrics,
        *,
        several: bool,
    ) -> None:
        """Args: `several` is whether this is one of many by the settings; they may start later."""
        self._several = several
        self._valkey = valkey
        self._instance = instance
        self._release = release
        self._metrics = metrics
        self._claims: Lookups[Name, bool] = Lookups(self._claim, at_once=4)
        self._answered: dict[int, asyncio.Event] = {}
        self._missing: dict[int, int] = {}
        self._number = 0
        self._listening = asyncio.Event()
        self._inbox = bus.broker(instance.id)

    @property
    def shared(self) -> bool:
        """Whether there are others, were some, or will be; then sessions may change elsewhere."""
        self._several = self._several or not self._instance.alone
        return self._several

    async def joined(self) -> None:
        """Wait until the others can be heard, if there are any; not for long."""
        if self.shared:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._listening.wait()
            except TimeoutError:
                _log.warning("clients are let in without the other brokers", reason="not joined")

    async def claim(self, device_id: UUID, client_id: str) -> bool:
        """Have the others let go of a client.

        Returns:
            Whether the database may know more of its session than this process.
        """
        if not self.shared:
            return False
        if not self._instance.alone:
            await self._claims.get((device_id, client_id))
        return True

    async def _claim(self, names: list[Name]) -> dict[Name, bool]:
        self._number += 1
        number = self._number
        event = self._answered[number] = asyncio.Event()
        self._missing[number] = 0
        claim = _encode(_Claim(self._instance.id, number, names))
        try:
            async with asyncio.timeout(PATIENCE):
                receivers = await self._valkey.publish(bus.BROKER_CLAIM, claim)
                if not self._listening.is_set():
                    return {}
                self._missing[number] += receivers - 1  # this process hears itself
                if self._missing[number] > 0:
                    await event.wait()
        except (RedisError, OSError, TimeoutError) as error:
            self._metrics.bus_errors.inc()
            _log.warning("clients are let in without the other brokers", reason=repr(error))
        finally:
            del self._answered[number], self._missing[number]
        return {}

    async def listen(self, group: asyncio.TaskGroup) -> None:
        """Follow the others until cancelled; reconnects by itself."""
        pause = 0.1
        while True:
            try:
                async with self._valkey.pubsub() as pubsub:
                    await pubsub.subscribe(bus.BROKER_CLAIM, self._inbox)
                    # What has started meanwhile is told to ask this one, too.
                    await self._valkey.publish(
                        bus.BROKER_CLAIM, _encode(_Claim(self._instance.id, 0, []))
                    )
                    pause = 0.1
                    while True:
                        message = await pubsub.get_message(timeout=5)
                        if message is not None:
                            self._told(group, message)
            except (RedisError, OSError, TimeoutError) as error:
                self._listening.clear()
                self._metrics.bus_errors.inc()
                _log.warning("the other brokers cannot be heard", reason=repr(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _told(self, group: asyncio.TaskGroup, message: dict[str, object]) -> None:
        if message["type"] == "subscribe":
            self._listening.set()
            return
        data = message["data"]
        if message["type"] != "message" or not isinstance(data, bytes):
            return
        try:
            claim = _decode(data)
        except msgspec.DecodeError as error:
            _log.warning("another broker is not understood", reason=str(error))
            return
        if message["channel"] == self._inbox.encode():
            event = self._answered.get(claim.number)
            if event is not None:
                self._missing[claim.number] -= 1
                if self._missing[claim.number] == 0:
                    event.set()
        elif claim.sender != self._instance.id:
            self._instance.alone = False
            if claim.names:
                group.create_task(self._let_go(claim))

    async def _let_go(self, claim: _Claim) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._release(claim.names)
            answer = _encode(_Claim(self._instance.id, claim.number, []))
            await self._valkey.publish(bus.broker(claim.sender), answer)
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("another broker waits in vain", reason=repr(error))
