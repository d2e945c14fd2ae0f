"""Messages on their way from the sockets to the database: parts, batches, and the bounded queue."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from broker.devices import Device
from core.db.repositories.ingest import (
    EventRow,
    OutboxRow,
    ResponseRow,
    TriggerStateRow,
)
from core.db.repositories.ingest_dead_letters import DeadLetterRow
from core.db.repositories.ingest_gateways import ClaimRow
from core.db.repositories.ingest_rows import RowEncoder
from core.db.repositories.mqtt_sessions import SessionChanges

if TYPE_CHECKING:
    from broker.metrics import BrokerMetrics

MAX_BATCH: Final = 20_000
"""Messages in one transaction; more make a transaction long without making it cheaper."""

_WEIGHT: Final = 1024  # bytes that count as one message for the high-water mark


class AckTarget(Protocol):
    """The connection that a part came from."""

    def acknowledge(self, packets: bytes, count: int) -> None:
        """Send acknowledgements, unless the connection is gone."""
        ...

    def released(self, packet_ids: list[int]) -> None:
        """The QoS 2 messages with these ids are committed."""
        ...

    def report_fault(self, fault: bytes) -> None:
        """Tell the device of a message that became a dead letter."""
        ...


@dataclass(slots=True)
class Effects:
    """What messages do beside adding telemetry rows; rare, so it is made when needed.

    `reported` and `states` hold the newest per device and per trigger; they, `forget` and
    `sessions` must be written in the order of receipt.
    """

    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    reported: dict[tuple[UUID, UUID], dict[str, Any]] = field(default_factory=dict)
    responses: list[ResponseRow] = field(default_factory=list)
    claims: dict[UUID, ClaimRow] = field(default_factory=dict)
    outbox: list[OutboxRow] = field(default_factory=list)
    states: dict[tuple[UUID, int, UUID], TriggerStateRow] = field(default_factory=dict)
    forget: list[tuple[UUID, int]] = field(default_factory=list)
    faults: list[bytes] = field(default_factory=list)
    sessions: SessionChanges | None = None

    @property
    def ordered(self) -> bool:
        """Whether an earlier batch must be committed before this."""
        return bool(self.states or self.reported or self.forget or self.sessions)


Scores = list[int] | None
"""A score from 0 to 100 per value; None when all are 100."""

Point = tuple[int, Mapping[str, float | None], RowEncoder, Scores]
"""Time in microseconds, values by name, the metric list, and the quality."""

Unresolved = tuple[int, dict[str, float | None], Scores]
"""A point whose metric list is not known yet."""


class Part:
    """What one chunk of one connection brought; the unit that is committed and acknowledged.

    Attributes:
        device: None for a part of the broker's own.
        rows: Encoded telemetry rows; `live` has the same points for subscribers.
        hours: Hours since 1970 of rows outside the usual window: they may lack a partition, or be
            late for their roll-up.
        acks, released: PUBACK packets and QoS 2 packet ids to answer after the commit.
        after: What is to be done after the commit, in this order; it must not raise.
        messages: PUBLISH packets in it.
        doubtful: Messages in it with a score below 100.
    """

    __slots__ = (
        "acks",
        "after",
        "bytes",
        "device",
        "doubtful",
        "effects",
        "hours",
        "live",
        "messages",
        "released",
        "rows",
        "target",
        "unresolved",
    )

    def __init__(self, device: Device | None, target: AckTarget | None) -> None:
        self.device = device
        self.target = target
        self.rows: list[bytes] = []
        self.live: list[Point] = []
        self.unresolved: list[Unresolved] = []
        self.hours: set[int] = set()
        self.effects: Effects | None = None
        self.acks = b""
        self.released: list[int] = []
        self.after: list[Callable[[], None]] | None = None
        self.messages = 0
        self.doubtful = 0
        self.bytes = 0

    def effect(self) -> Effects:
        """Return the effects, made at the first call."""
        if self.effects is None:
            self.effects = Effects()
        return self.effects

    def sessions(self) -> SessionChanges:
        """Return the changes of MQTT sessions, made at the first call."""
        effects = self.effect()
        if effects.sessions is None:
            effects.sessions = SessionChanges()
        return effects.sessions

    def then(self, act: Callable[[], None]) -> None:
        """Do something after the commit; it must not raise."""
        if self.after is None:
            self.after = []
        self.after.append(act)

    @property
    def weight(self) -> int:
        """How much of the queue it takes."""
        return max(self.messages, len(self.rows) + len(self.unresolved), self.bytes // _WEIGHT)


class Batch:
    """Parts that are committed in one transaction.

    Attributes:
        after: The batch with ordered effects before this one, when this one has some too.
        opened: When its first part arrived, in seconds since 1970.
        committed: Set once everything in it is in the database.
    """

    __slots__ = ("after", "committed", "opened", "ordered", "parts", "weight")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.weight = 0
        self.opened = 0.0
        self.ordered = False
        self.after: Batch | None = None
        self.committed = asyncio.Event()


class IngestQueue:
    """Parts waiting for the flushers, in the order of receipt.

    It is bounded: above the high-water mark `admitted` makes readers wait, which stops reading
    from their sockets, until the flushers have brought it below the low-water mark. A reader
    asks before it parses a chunk, so at most one chunk is taken beyond the mark.
    """

    def __init__(self, high_water: int, low_water: int, metrics: BrokerMetrics) -> None:
        self._high, self._low = high_water, low_water
        self._metrics = metrics
        self._sealed: deque[Batch] = deque()
        self._open = Batch()
        self._taken: deque[Batch] = deque()
        self._last_ordered: Batch | None = None
        self._arrived = asyncio.Event()
        self._admitting = asyncio.Event()
        self._admitting.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._weight = 0
        self._stopped = False

    @property
    def weight(self) -> int:
        """Messages that are not committed yet, those being written included."""
        return self._weight

    @property
    def admitting(self) -> bool:
        """Whether readers may go on."""
        return self._admitting.is_set()

    async def admitted(self) -> None:
        """Wait until the queue takes more."""
        await self._admitting.wait()

    def stop(self) -> None:
        """Admit nothing any more; what is here will still be committed."""
        self._stopped = True
        self._admitting.clear()

    async def drained(self) -> None:
        """Wait until everything that was put is committed."""
        await self._empty.wait()

    def put(self, part: Part) -> None:
        """Add a part; never waits."""
        batch = self._open
        if not batch.parts:
            batch.opened = time.time()
        batch.parts.append(part)
        weight = part.weight or 1
        batch.weight += weight
        if part.device is not None:
            part.device.pending += 1
        if part.effects is not None and part.effects.ordered:
            batch.ordered = True
        self._weight += weight
        self._empty.clear()
        if batch.weight >= MAX_BATCH:
            self._sealed.append(batch)
            self._open = Batch()
        if self._weight >= self._high:
            self._admitting.clear()
        self._arrived.set()

    async def take(self) -> Batch:
        """Return the oldest batch, waiting for one."""
        while True:
            if self._sealed:
                batch = self._sealed.popleft()
                break
            if self._open.parts:
                batch, self._open = self._open, Batch()
                break
            self._arrived.clear()
            await self._arrived.wait()
        if batch.ordered:
            batch.after, self._last_ordered = self._last_ordered, batch
        self._taken.append(batch)
        self._metrics.queue.set(self._weight)
        return batch

    def settled(self) -> list[Batch]:
        """Return the committed batches before which no other is still on its way, oldest first."""
        settled: list[Batch] = []
        while self._taken and self._taken[0].committed.is_set():
            settled.append(self._taken.popleft())
        return settled

    def done(self, batch: Batch) -> None:
        """Take a batch that is committed and acknowledged off the account."""
        batch.after = None
        if self._last_ordered is batch:
            self._last_ordered = None
        self._weight -= batch.weight
        if self._weight <= self._low and not self._stopped:
            self._admitting.set()
        if not self._weight:
            self._empty.set()
        self._metrics.queue.set(self._weight)
