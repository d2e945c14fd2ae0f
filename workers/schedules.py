"""What Temporal starts by the clock: the schedules are made when they are not there."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
)
from temporalio.service import RPCError

from core.temporal.names import STORAGE_SCHEDULE, TaskQueue, WorkflowType
from core.temporal.storage_contracts import StorageInput

_log = structlog.get_logger(__name__)

_RPC_TIMEOUT: Final = timedelta(seconds=10)
_PAUSE: Final = 10.0
_CATCH_UP: Final = timedelta(hours=1)


async def keep_schedules(client: Client) -> None:
    """Make the schedules that are missing; one that people changed stays as they left it."""
    while True:
        try:
            await make_storage_schedule(client)
        except (RPCError, RPCTimeoutOrCancelledError, OSError) as error:
            _log.warning("schedules_wait", error=str(error))
            await asyncio.sleep(_PAUSE)
        else:
            return


async def make_storage_schedule(client: Client) -> None:
    """Make the schedule that applies the storage policies every night, unless it exists.

    Raises:
        temporalio.service.RPCError: Temporal does not answer.
    """
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            WorkflowType.STORAGE_MAINTENANCE,
            StorageInput(),
            id=STORAGE_SCHEDULE,
            task_queue=TaskQueue.AUTOMATION,
        ),
        spec=ScheduleSpec(
            calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(2)], minute=[ScheduleRange(30)])]
        ),
        # One at a time, and one that was missed is worth an hour of patience, no more.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=_CATCH_UP),
    )
    try:
        await client.create_schedule(STORAGE_SCHEDULE, schedule, rpc_timeout=_RPC_TIMEOUT)
    except ScheduleAlreadyRunningError:
        return
