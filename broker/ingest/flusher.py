"""Batches into the database. Acknowledged means committed; these are the invariants behind it.

1. A part is acknowledged, published and taken off the queue's account only after the transaction
   with its rows and all its effects has committed. A part is never split across an
   acknowledgement: its PUBACKs are sent when all of it is committed, and after those of earlier
   batches, since a client's must come in the order of its messages [MQTT-4.6.0-2].
2. A transaction that fails is repeated until it commits. Nothing is dropped because the database
   is down; the queue fills, and reading from the sockets stops.
3. What is delivered twice is stored once: the key of a row is (device, time, metric list), and a
   batch that meets a stored row is repeated through a merge.
4. A trigger's new state and the outbox rows of its firing commit together with the message that
   caused them. Triggers are judged at receipt, so the state in memory runs ahead of the stored
   one; batches with states (or twins) therefore commit in the order of receipt, and a batch waits
   for its predecessor before it begins, never while it holds locks.
5. If the process dies, the uncommitted messages were not acknowledged and come again, and the
   states are loaded as they were before these messages. So no firing is lost, and none is made
   twice: the outbox key contains the time of the message.
6. One bad row cannot block the others for ever: a batch the database calls wrong is bisected down
   to the row at fault, which becomes a dead letter.
7. A Valkey outage delays and loses notifications only.
8. A row that may be late for its roll-up has its hour noted before it is acknowledged, so that the
   roll-up is made again (core/db/repositories/rollups.py says when that is).
"""

import asyncio
import random
import time
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Devices
from broker.ingest.batching import Batch, IngestQueue, Part
from broker.ingest.effects import EffectWriter
from broker.ingest.latest import LatestValues
from broker.metrics import BrokerMetrics
from broker.notifications import Notifier
from core.db.repositories import ingest as sql
from core.db.repositories.ingest_dead_letters import DeadLetterRow
from core.db.repositories.ingest_rows import RowEncoder
from core.db.repositories.rollups import SLOW_COMMIT

_log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.05  # seconds before the first repetition; doubled up to
_LONGEST_PAUSE: Final = 5.0
_ORPHANED: Final = 3  # repetitions after which it must be something else
_HOUR: Final = 3_600_000_000  # microseconds
_UNIX: Final = date(1970, 1, 1)
_SLOW: Final = SLOW_COMMIT.total_seconds()

# The rows themselves are at fault; repeating them as they are would fail for ever.
_WRONG: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class Flusher:
    """Commits batches; several `run` at once, one transaction each.

    Attributes:
        trouble: Why the last transaction failed, until one succeeds.
    """

    def __init__(
        self,
        queue: IngestQueue,
        database: IngestDatabase,
        devices: Devices,
        latest: LatestValues,
        notifier: Notifier,
        metrics: BrokerMetrics,
    ) -> None:
        self._queue = queue
        self._database = database
        self._devices = devices
        self._latest = latest
        self._notifier = notifier
        self._metrics = metrics
        self._effects = EffectWriter(metrics)
        self._days: set[int] = set()
        self.trouble: str | None = None

    async def run(self) -> None:
        """Commit batch after batch until cancelled."""
        while True:
            batch = await self._queue.take()
            if batch.after is not None:
                await batch.after.committed.wait()  # invariant 4
            began = time.perf_counter()
            await self._commit(batch.parts, batch.opened)
            self._metrics.batch_seconds.observe(time.perf_counter() - began)
            batch.committed.set()
            for done in self._queue.settled():
                self._finish(done)

    async def prepare_days(self, first: int, last: int) -> None:
        """Make sure that days, counted from 1970, have their partitions."""
        for day in range(first, last + 1):
            if day not in self._days:
                async with self._database.connection() as connection:
                    await sql.ensure_partition(connection, _UNIX + timedelta(days=day))
                self._days.add(day)

    async def _commit(self, parts: list[Part], opened: float, *, grave: bool = False) -> None:
        """Commit parts, however long it takes; a grave is one that replaces a refused part.

        `opened` is when the first of them arrived.
        """
        # Days that are over may be sealed: what is delivered again is found by a merge only.
        day_ago = (int(time.time()) - 86_400) // 3600
        merge = any(hour <= day_ago for part in parts for hour in part.hours)
        pause, orphaned, written = _FIRST_PAUSE, 0, False
        stale: set[sql.StaleHourRow] = set()
        while True:
            try:
                if not written:
                    await self._resolve(parts)
                    stale = stale_hours(parts, everything=time.time() - opened > _SLOW / 2)
                    await self._write(parts, stale, merge=merge)
                    written = True
                if time.time() - opened > _SLOW:  # invariant 8
                    await self._note(stale_hours(parts, everything=True) - stale)
            except asyncpg.UniqueViolationError:
                if merge:
                    await self._bisect(parts, opened, grave=grave)
                    return
                merge = True  # invariant 3
            except asyncpg.ForeignKeyViolationError as error:
                # A device was deleted while this ran; the statements leave it out next time.
                orphaned += 1
                if orphaned > _ORPHANED:
                    await self._bisect(parts, opened, grave=grave)
                    return
                pause = await self._pause(pause, error)
            except _WRONG:
                await self._bisect(parts, opened, grave=grave)
                return
            except OUTAGE as error:
                pause = await self._pause(pause, error)  # invariant 2
            else:
                self.trouble = None
                return

    async def _pause(self, pause: float, error: Exception) -> float:
        self._metrics.flush_errors.inc()
        self.trouble = f"cannot store: {error!r}"
        _log.warning("a transaction failed and is repeated", reason=repr(error), seconds=pause)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  (jitter)
        return min(pause * 2, _LONGEST_PAUSE)

    async def _bisect(self, parts: list[Part], opened: float, *, grave: bool) -> None:
        """Invariant 6."""
        if len(parts) > 1:
            middle = len(parts) // 2
            await self._commit(parts[:middle], opened)
            await self._commit(parts[middle:], opened)
            return
        part = parts[0]
        if halves := _halves(part):
            for half in halves:
                await self._commit([half], opened)
            return
        _log.error(
            "the database refuses a message",
            device_id=None if part.device is None else str(part.device.id),
            lost=grave,
        )
        if grave:
            return
        self._metrics.refused_rows.inc()
        letter = Part(part.device, None)
        if part.device is not None:
            letter.effect().dead_letters.append(
                DeadLetterRow(
                    part.device.tenant_id,
                    part.device.id,
                    datetime.now(UTC),
                    "",
                    b"".join(part.rows),
                    "not_storable",
                    "",
                    "the database refused this row (in its binary COPY form) or what it causes",
                )
            )
        part.unresolved = []
        await self._commit([letter], opened, grave=True)

    async def _resolve(self, parts: list[Part]) -> None:
        """Create what the rows rest on, each in a short transaction of its own."""
        days: set[int] = set()
        for part in parts:
            days |= {hour // 24 for hour in part.hours} - self._days
            if part.unresolved and part.device is not None:
                for at, values, quality in part.unresolved:
                    names = tuple(values)
                    encoder = part.device.lists.get(names)
                    if encoder is None:
                        encoder = await self._metric_list(part.device.tenant_id, names)
                        part.device.lists[names] = encoder
                    part.rows.append(
                        encoder.row(part.device.prefix, at, list(values.values()), quality)
                    )
                    part.live.append((at, values, encoder, quality))
                part.unresolved = []
        for day in days:
            await self.prepare_days(day, day)

    async def _metric_list(self, tenant_id: UUID, names: tuple[str, ...]) -> RowEncoder:
        async with self._database.connection() as connection:
            return RowEncoder(await sql.metric_list(connection, tenant_id, names), names)

    async def _note(self, stale: set[sql.StaleHourRow]) -> None:
        if stale:
            async with self._database.connection() as connection:
                await sql.note_stale(connection, stale)

    async def _write(self, parts: list[Part], stale: set[sql.StaleHourRow], *, merge: bool) -> None:
        rows = [row for part in parts for row in part.rows]
        effects = [part.effects for part in parts if part.effects is not None]
        if not effects and not merge and not stale:
            if rows:
                async with self._database.connection() as connection:
                    await sql.copy_telemetry(connection, rows)  # a transaction by itself
            return
        async with self._database.transaction() as connection:
            if merge:
                duplicates = len(rows) - await sql.merge_telemetry(connection, rows)
            else:
                duplicates = 0
                if rows:
                    await sql.copy_telemetry(connection, rows)
            if stale:
                await sql.note_stale(connection, stale)
            written = await self._effects.write(connection, effects)
        self._metrics.duplicates.inc(duplicates)
        self._notifier.answered(written.answered)
        written.tell(effects)

    def _finish(self, batch: Batch) -> None:
        """Acknowledge and publish what is committed (invariant 1)."""
        messages = 0
        outbox = False
        for part in batch.parts:
            messages += part.messages
            if part.target is not None:
                if part.acks:
                    count = len(part.acks) // 4
                    part.target.acknowledge(part.acks, count)
                if part.released:
                    part.target.released(part.released)
                if part.effects is not None:
                    for fault in part.effects.faults:
                        part.target.report_fault(fault)
            if part.after is not None:
                for act in part.after:
                    act()
            outbox = outbox or (part.effects is not None and bool(part.effects.outbox))
            if part.device is not None:
                part.device.pending -= 1
                if part.live:
                    self._latest.note(part.device, part.live)
                    self._notifier.telemetry(part.device, part.live)
                if not part.device.connections:
                    self._devices.release(part.device)
        if outbox:
            self._notifier.outbox()
        self._metrics.committed.inc(messages)
        self._metrics.batch_size.observe(messages)
        self._queue.done(batch)


def _halves(part: Part) -> tuple[Part, Part] | None:
    """Divide a part for bisection: its rows, then its rows from its effects."""
    if part.unresolved or not part.rows or (len(part.rows) == 1 and part.effects is None):
        return None
    first, second = Part(part.device, None), Part(part.device, None)
    middle = max(1, len(part.rows) // 2)
    first.rows, second.rows = part.rows[:middle], part.rows[middle:]
    first.hours = second.hours = part.hours
    first.live = second.live = part.live
    second.effects = part.effects
    return first, second


def stale_hours(parts: list[Part], *, everything: bool) -> set[sql.StaleHourRow]:
    """Return the hours whose roll-ups may miss rows of these parts.

    Args:
        parts: What is committed.
        everything: It took so long that rows may be late by now which were not when they arrived.
    """
    found: set[sql.StaleHourRow] = set()
    for part in parts:
        if part.device is None:
            continue
        hours = part.hours
        if everything:
            hours = hours | {at // _HOUR for at, *_ in part.live}
        for hour in hours:
            found.add(sql.StaleHourRow(part.device.tenant_id, part.device.id, hour))
    return found
