"""From messages of another broker to parts: whose they are, what they are, and how they are told.

Two kinds of consumers read the same topics. A storing one takes its share of all messages, beside
any number of others, and judges nothing. A judging one has the triggers of its devices to itself
and gets every message in order, by a session of its own; it stores nothing but what triggers
remember and set off. The reasons are in docs/adr/0010-triggers-behind-another-broker.md.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Final
from uuid import UUID

import structlog

from broker.devices import Device
from broker.external.fleet import Fleet
from broker.external.link import Link
from broker.external.packets import Publish
from broker.ingest.batching import Part
from broker.ingest.intake import Ingest
from broker.metrics import BrokerMetrics
from core.settings.processes import IngestSettings
from core.topics import PREFIX
from core.topics_acl import Route

_log = structlog.get_logger(__name__)

_PREFIX: Final = PREFIX.encode()
_ID_END: Final = len(_PREFIX) + 36
_ROUTES: Final = {
    b"/telemetry": Route.TELEMETRY,
    b"/attributes": Route.ATTRIBUTES,
    b"/events": Route.EVENTS,
}
_COMMAND, _RESPONSE = b"/commands/", b"/response"
_COMPLAINT: Final = 10.0  # seconds between two lines of the log about strangers

UPWARD: Final = (
    f"{PREFIX}+/telemetry",
    f"{PREFIX}+/attributes",
    f"{PREFIX}+/events",
    f"{PREFIX}+/commands/+/response",
)
"""What devices send."""
MEASUREMENTS: Final = UPWARD[:1]


def route(topic: bytes) -> tuple[UUID, Route] | None:
    """Return whose topic it is and what it means; None when it is none of ours."""
    if not topic.startswith(_PREFIX):
        return None
    rest = topic[_ID_END:]
    kind = _ROUTES.get(rest)
    if kind is None:
        name = rest[len(_COMMAND) : -len(_RESPONSE)]
        if not (rest.startswith(_COMMAND) and rest.endswith(_RESPONSE) and name):
            return None
        if b"/" in name:
            return None
        kind = Route.RESPONSE
    try:
        return UUID(topic[len(_PREFIX) : _ID_END].decode()), kind
    except ValueError:
        return None


class _Consumer(ABC):
    def __init__(
        self, fleet: Fleet, ingest: Ingest, metrics: BrokerMetrics, max_payload: int
    ) -> None:
        self._fleet = fleet
        self._ingest = ingest
        self._metrics = metrics
        self._max_payload = max_payload
        self._complained = 0.0

    async def handle(self, link: Link, messages: list[Publish]) -> None:
        """Take what a chunk brought; waits while the queue is full or the database away."""
        await self._ingest.queue.admitted()
        known = [(message, route(message.topic)) for message in messages]
        wanted = {found[0] for _, found in known if found is not None and self._mine(found[0])}
        await self._fleet.find(wanted)
        now = time.time_ns() // 1000
        for message, found in known:
            part = Part(None, link)
            if found is not None and self._mine(found[0]) and not message.retain:
                device = self._fleet.get(found[0])
                if device is None:
                    self._refuse("unknown_device", message)
                elif len(message.payload) > self._max_payload:
                    self._refuse("too_large", message)
                else:
                    part = self._part(device, link, found[1], message, now)
            elif found is None:
                self._refuse("unknown_topic", message)
            part.messages = 1
            part.bytes = len(message.payload)
            if message.packet_id:
                part.released.append(message.packet_id)
            self._ingest.submit(part)

    @abstractmethod
    def _mine(self, device_id: UUID) -> bool: ...

    @abstractmethod
    def _part(
        self, device: Device, link: Link, kind: Route, message: Publish, now: int
    ) -> Part: ...

    def _refuse(self, code: str, message: Publish) -> None:
        """Count what is nobody's: there is no tenant whose dead letter it could be."""
        self._metrics.dead_letters.labels(code).inc()
        if time.monotonic() - self._complained > _COMPLAINT:
            self._complained = time.monotonic()
            topic = message.topic.decode(errors="replace")[:200]
            _log.warning("a message is acknowledged and not stored", code=code, topic=topic)


class StoringConsumer(_Consumer):
    """Stores everything that it gets."""

    def _mine(self, device_id: UUID) -> bool:
        return True

    def _part(self, device: Device, link: Link, kind: Route, message: Publish, now: int) -> Part:
        part = Part(device, link)
        self._ingest.message(part, device, kind, message.topic, message.payload, now)
        return part


class JudgingConsumer(_Consumer):
    """Lets the triggers judge the measurements of the devices of one shard.

    Messages of a fresh connection may be held back for a while: see `IngestSettings.settle`.
    """

    def __init__(
        self,
        fleet: Fleet,
        ingest: Ingest,
        metrics: BrokerMetrics,
        max_payload: int,
        shard: int,
        settings: IngestSettings,
    ) -> None:
        super().__init__(fleet, ingest, metrics, max_payload)
        self._shard, self._shards = shard, settings.shards
        self._settle, self._most = settings.settle, settings.receive_maximum
        self._link: Link | None = None
        self._held: list[Publish] = []
        self._ends = 0.0
        self._holding = asyncio.Event()
        self._turn = asyncio.Lock()

    async def handle(self, link: Link, messages: list[Publish]) -> None:
        """Take what a chunk brought, or hold it back while its connection is fresh."""
        async with self._turn:
            if link is not self._link:
                # What was held of another connection will come again on this one.
                self._link, self._held = link, []
                self._ends = time.monotonic() + self._settle
            if not self._held and time.monotonic() >= self._ends:
                await super().handle(link, messages)
                return
            self._held += messages
            if len(self._held) >= self._most:
                self._ends = 0.0
            self._holding.set()

    async def settle(self) -> None:
        """Let go of what was held, when its time is over, until cancelled."""
        while True:
            await self._holding.wait()
            # Another connection, or too many held, may have moved the end meanwhile.
            if (left := self._ends - time.monotonic()) > 0:
                await asyncio.sleep(min(left, 0.5))
                continue
            async with self._turn:
                self._holding.clear()
                held, self._held = self._held, []
                if self._link is not None and held and time.monotonic() >= self._ends:
                    held.sort(key=lambda message: not message.again)  # stable
                    await super().handle(self._link, held)

    def _mine(self, device_id: UUID) -> bool:
        return device_id.int % self._shards == self._shard

    def _part(self, device: Device, link: Link, kind: Route, message: Publish, now: int) -> Part:
        part = Part(device, link)
        if kind is Route.TELEMETRY and device.bindings:
            whole = Part(device, None)
            self._ingest.message(whole, device, kind, message.topic, message.payload, now)
            if whole.effects is not None and (whole.effects.states or whole.effects.outbox):
                kept = part.effect()
                kept.states.update(whole.effects.states)
                kept.outbox.extend(whole.effects.outbox)
        return part

    def _refuse(self, code: str, message: Publish) -> None:
        """Whoever stores has told of it."""
