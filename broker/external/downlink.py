"""Down to devices through another broker: commands and the desired twin.

The database is the record of both, and one process publishes for all (it has a lease). A command
is `sent` once the broker has acknowledged it: from then on it is the broker's to deliver, to the
session of the device if that is kept (QoS 1). A broker that speaks MQTT 5 tells when nobody has
subscribed; then the command stays pending and is tried again until it expires. The desired state
is a retained message, published anew whenever its version changed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

import msgspec
import structlog

from broker.database import OUTAGE
from broker.external.leases import Lease, LeaseLostError, obtain
from broker.external.link import Link, LinkLostError
from broker.external.packets import FAILURE, NO_SUBSCRIBERS
from broker.external.subscriber import Subscriber
from broker.external.watch import Watch
from broker.metrics import BrokerMetrics
from core import topics
from core.db.repositories.external_broker import (
    DownCommand,
    UnpublishedTwin,
    note_published,
    pending_commands,
    unpublished_twins,
)
from core.db.repositories.ingest_devices import mark_sent
from core.settings import Settings

_log = structlog.get_logger(__name__)

_PERIOD: Final = 5.0  # seconds between looks when nobody tells
_AT_ONCE: Final = 100
_AGAIN: Final = 10.0  # seconds until a command is tried again that nobody was there for
_MOST_POSTPONED: Final = 10_000
_encode: Final = msgspec.json.Encoder().encode
_Item = TypeVar("_Item")


class ExternalDownlink:
    """Publishes what waits in the database."""

    def __init__(self, settings: Settings, watch: Watch, metrics: BrokerMetrics) -> None:
        self._settings = settings
        self._watch = watch
        self._metrics = metrics
        self._link: Link | None = None
        self._postponed: dict[UUID, float] = {}

    async def run(self) -> None:
        """Deliver whenever this process has the lease, until cancelled."""
        name = f"{self._settings.ingest.group}-down"
        while True:
            lease = await obtain(self._settings, name)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(lease.watch())
                    group.create_task(
                        Subscriber(self._settings, name, connected=self._connected).run()
                    )
                    group.create_task(self._deliver(lease))
            except* LeaseLostError:
                _log.warning("another process may deliver now", name=name)
            finally:
                await lease.close()

    def _connected(self, link: Link | None) -> None:
        self._link = link
        if link is not None:
            self._watch.down.set()

    async def _deliver(self, lease: Lease) -> None:
        while True:
            try:
                async with asyncio.timeout(_PERIOD):
                    await self._watch.down.wait()
            except TimeoutError:
                pass  # the period is over: that is the other reason to look
            self._watch.down.clear()
            link = self._link
            if link is None:
                continue
            try:
                more = await self._send_twins(lease, link) | await self._send_commands(lease, link)
            except OUTAGE as error:
                _log.warning("delivery waits for the database", reason=repr(error))
            except LinkLostError:
                _log.info("delivery waits for the broker")
            else:
                if more:
                    self._watch.down.set()

    async def _send_twins(self, lease: Lease, link: Link) -> bool:
        async with lease.connection() as connection:
            twins = await unpublished_twins(connection, _AT_ONCE)

        async def publish(twin: UnpublishedTwin) -> bool:
            reason = await self._publish(
                link, topics.desired(twin.device_id), twin.state.encode(), retain=True
            )
            return reason is not None

        done = await _each(twins, publish)
        if done:
            async with lease.connection() as connection:
                await note_published(connection, done)
        return len(done) == _AT_ONCE

    async def _send_commands(self, lease: Lease, link: Link) -> bool:
        now = time.monotonic()
        self._postponed = {each: at for each, at in self._postponed.items() if at > now}
        async with lease.connection() as connection:
            commands = await pending_commands(connection, list(self._postponed), _AT_ONCE)

        async def publish(command: DownCommand) -> bool:
            payload = msgspec.Raw(command.payload.encode())
            body = _encode({"id": str(command.command_id), "payload": payload})
            topic = topics.command(command.device_id, command.name)
            reason = await self._publish(link, topic, body)
            if reason == NO_SUBSCRIBERS and len(self._postponed) < _MOST_POSTPONED:
                self._postponed[command.command_id] = time.monotonic() + _AGAIN
                return False
            return reason is not None

        done = await _each(commands, publish)
        if done:
            self._metrics.commands_sent.inc(len(done))
            async with lease.connection() as connection:
                await mark_sent(connection, [command.command_id for command in done])
        return len(commands) == _AT_ONCE and bool(done)

    async def _publish(
        self, link: Link, topic: str, payload: bytes, *, retain: bool = False
    ) -> int | None:
        """Return the broker's reason; None when it did not take the message."""
        try:
            reason = await link.publish(topic, payload, retain=retain)
        except TimeoutError:
            _log.warning("not acknowledged by the broker", topic=topic)
            return None
        if reason >= FAILURE:
            _log.warning("refused by the broker", topic=topic, reason=f"{reason:#x}")
            return None
        return reason


async def _each(items: list[_Item], act: Callable[[_Item], Awaitable[bool]]) -> list[_Item]:
    """Start all in their order, and return those that succeeded."""
    results = await asyncio.gather(*(act(item) for item in items))
    return [item for item, done in zip(items, results, strict=True) if done]
