"""A worker process: works on task queues until a signal ends it.

A supervisor restarts it when it dies; what it was doing goes on elsewhere.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorAutoscaling, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.resources import Resources, open_resources
from core.db.session import Database
from core.settings import Settings
from core.temporal.client import connect
from core.temporal.names import TaskQueue
from workers.heartbeat import beat, heartbeat_file
from workers.outbox_relay import OutboxRelay
from workers.registry import capabilities
from workers.roll_up import LONGEST_STATEMENT, RollUp
from workers.schedules import keep_schedules

_log = structlog.get_logger(__name__)

GRACE: Final = timedelta(seconds=10)
"""Time that activities have to finish when the process is told to stop."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0

_Value = TypeVar("_Value")


def workflow_runner(*, strict: bool = False) -> SandboxedWorkflowRunner:
    """Return the sandbox that workflows run in.

    Args:
        strict: Import workflow files anew for every run, so that a forbidden call in them raises.
            Tests do so; in service it costs a third of a run's processor time.
    """
    shared = ["pydantic", "pydantic_core", "cel", "core.dsl", "core.errors", "core.temporal"]
    if not strict:
        shared.append("workflows")
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*shared)
    )


def build_worker(client: Client, queue: TaskQueue, resources: Resources) -> Worker:
    """Return the worker of a queue, not yet started."""
    able = capabilities(queue)
    return Worker(
        client,
        task_queue=queue,
        workflows=able.workflows,
        activities=able.activities(resources),
        workflow_runner=workflow_runner(),
        max_concurrent_activities=able.parallel,
        graceful_shutdown_timeout=GRACE,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, maximum=20),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(maximum=20),
    )


async def run(settings: Settings, queues: Sequence[TaskQueue]) -> None:
    """Work on the queues until SIGTERM or SIGINT; then finish what is under way and return.

    Waits for Temporal and PostgreSQL as long as they are down. The process that has the
    automation queue also relays the outbox, the one that has
    maintenance's keeps the roll-ups and the schedules.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        resources = await stack.enter_async_context(open_resources(settings))
        client = await _until_stopped(stop, _wait_for(settings, resources.database))
        if client is None:
            return
        workers = [build_worker(client, queue, resources) for queue in queues]
        _log.info("worker_started", queues=list(queues))
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(beat(heartbeat_file(settings, queue))) for queue in queues]
            if TaskQueue.AUTOMATION in queues:
                # Connections of its own, so that it and the activities cannot starve each other.
                database = Database.connect(settings, "worker")
                stack.push_async_callback(database.close)
                relay = OutboxRelay(database, resources.bus, client)
                helpers.append(tasks.create_task(relay.run()))
            if TaskQueue.MAINTENANCE in queues:
                owner = Database.connect(settings, "owner", statement_timeout=LONGEST_STATEMENT)
                stack.push_async_callback(owner.close)
                helpers.append(tasks.create_task(RollUp(owner).run()))
                helpers.append(tasks.create_task(keep_schedules(client)))
            for worker in workers:
                tasks.create_task(worker.run())
            await stop.wait()
            _log.info("worker_stopping")
            for helper in helpers:
                helper.cancel()
            for worker in workers:
                await worker.shutdown()


async def _until_stopped(stop: asyncio.Event, work: Awaitable[_Value]) -> _Value | None:
    """Return what the work gives, or None when the process is told to stop before."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        task.cancel()
        return None
    return task.result()


async def _wait_for(settings: Settings, database: Database) -> Client:
    async def reach_database() -> None:
        # Setting the tenant is a query, so this does reach the server.
        async with database.transaction(UUID(int=0)):
            return

    async def reach_temporal() -> Client:
        client = await connect(settings)
        await client.workflow_service.get_system_info(
            GetSystemInfoRequest(), timeout=timedelta(seconds=5)
        )
        return client

    await _patiently("postgres", reach_database)
    return await _patiently("temporal", reach_temporal)


async def _patiently(part: str, reach: Callable[[], Awaitable[_Value]]) -> _Value:
    """Return what the part gives as soon as it is reached."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return await reach()
        except (SQLAlchemyError, RPCError, OSError, RuntimeError, TimeoutError) as error:
            _log.warning("waiting_for", part=part, error=str(error))
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
