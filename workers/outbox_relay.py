"""Tells Temporal what the database has committed: the second half of the transactional outbox.

Rows are locked while they are told, so that several relays share the work. A process that dies in
between has told something without marking it: it is told again, and the workflow id makes that a
no-op.
"""

import asyncio
from datetime import timedelta
from typing import Final

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client, RPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from core import bus
from core.db.repositories import outbox_relay as repository
from core.db.repositories.outbox_relay import OutboxRow
from core.db.session import Database
from core.errors import IoTLinkerError
from core.temporal import launch
from core.temporal.outbox import OutboxPayload, SendSignal, StartRun, StartWorkflow
from workers.run_starter import WAITING_FOR_A_SLOT, NoSlotError, RunStarter

_log = structlog.get_logger(__name__)

BATCH: Final = 64
POLL: Final = 1.0
"""Seconds between looks when nothing wakes the relay."""
KEEP: Final = timedelta(days=1)
"""How long told rows are kept: for so long a repeated cause is recognised here already."""
_SWEEP_EVERY: Final = 600.0
_AFTER_FAILURE: Final = 2.0
_REFUSALS: Final = frozenset({RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.PERMISSION_DENIED})


class LaterError(Exception):
    """The row cannot be told now; with how long to wait at most."""

    def __init__(self, why: str, longest: timedelta = repository.MAX_BACKOFF) -> None:
        super().__init__(why)
        self.longest = longest


class OutboxRelay:
    """The relay of one process.

    Args:
        database: As the role `worker`.
        valkey: Wakes the relay; without it, it looks every second.
        client: The client of this process's automation worker, if there is one: then the first
            task of a run comes back with the answer to its start.
        parallel: Rows told at the same time.
    """

    def __init__(
        self, database: Database, valkey: Redis, client: Client, *, parallel: int = 16
    ) -> None:
        self._database = database
        self._valkey = valkey
        self._client = client
        self._starter = RunStarter(database, client)
        self._slots = asyncio.Semaphore(parallel)
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Relay until cancelled. What fails is logged and tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._sweep())
            tasks.create_task(self._relay())

    async def relay_batch(self) -> int:
        """Tell Temporal what is due and return how many rows were looked at.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database is down.
        """
        async with self._database.transaction(None) as session:
            rows = await repository.due(session, BATCH)
            if not rows:
                return 0
            async with asyncio.TaskGroup() as tasks:
                told = [(row, tasks.create_task(self._try(row))) for row in rows]
            await repository.mark_done(
                session, [row.id for row, task in told if task.result() is None]
            )
            for row, task in told:
                await self._put_off(session, row, task.result())
        return len(rows)

    async def _put_off(
        self, session: AsyncSession, row: OutboxRow, failure: Exception | None
    ) -> None:
        match failure:
            case None:
                return
            case LaterError():
                await repository.mark_later(session, row.id, str(failure), failure.longest)
            case _:
                _log.error("outbox_refused", key=row.key, error=str(failure))
                await repository.mark_refused(session, row.id, str(failure))

    async def _try(self, row: OutboxRow) -> Exception | None:
        """Tell one row; return what hindered it."""
        async with self._slots:
            try:
                await self._tell(row)
            except NoSlotError:
                return LaterError("as many runs as allowed are going on", WAITING_FOR_A_SLOT)
            except (msgspec.ValidationError, ValueError) as error:
                return error
            except IoTLinkerError as error:
                return error if error.status < 500 else LaterError(str(error))
            except RPCError as error:
                if error.status in _REFUSALS:
                    return error
                return LaterError(f"Temporal: {error.status.name}: {error.message}")
            except (
                SQLAlchemyError,
                OSError,
                RuntimeError,
                RPCTimeoutOrCancelledError,
            ) as error:
                return LaterError(f"{type(error).__name__}: {error}")
            except LaterError as later:
                return later
        return None

    async def _tell(self, row: OutboxRow) -> None:
        match msgspec.convert(row.payload, OutboxPayload):
            case StartRun() as wanted:
                await self._starter.start(row.tenant_id, wanted)
            case StartWorkflow() as wanted:
                await launch.start_workflow(self._client, str(row.tenant_id), wanted)
            case SendSignal() as wanted:
                await self._signal(wanted)

    async def _signal(self, wanted: SendSignal) -> None:
        if await launch.send_signal(self._client, wanted):
            return
        async with self._database.transaction(None) as session:
            starts = await repository.is_open(session, wanted.workflow_id)
        # Not there: either it has ended, and nobody waits for this, or its own start is still due.
        if starts:
            raise LaterError("the workflow has not started yet", timedelta(seconds=2))

    async def _relay(self) -> None:
        while True:
            self._wake.clear()
            try:
                looked_at = await self.relay_batch()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                _log.warning("outbox_unreadable", error=str(error))
                await asyncio.sleep(_AFTER_FAILURE)
                continue
            if looked_at < BATCH:
                try:
                    async with asyncio.timeout(POLL):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _listen(self) -> None:
        while True:
            try:
                async with self._valkey.pubsub() as channel:
                    await channel.subscribe(bus.OUTBOX)
                    while True:
                        message = await channel.get_message(
                            ignore_subscribe_messages=True, timeout=5
                        )
                        if message is not None:
                            self._wake.set()
            except (RedisError, OSError) as error:
                _log.warning("bus_down", error=str(error))
                await asyncio.sleep(_AFTER_FAILURE)

    async def _sweep(self) -> None:
        while True:
            try:
                async with self._database.transaction(None) as session:
                    await repository.sweep(session, KEEP)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                _log.warning("outbox_not_swept", error=str(error))
            await asyncio.sleep(_SWEEP_EVERY)
