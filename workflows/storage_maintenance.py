"""Applies the tenants' storage policies; a schedule starts it every night."""

import asyncio
from datetime import timedelta
from typing import Final
from uuid import UUID

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from core.temporal.activity_names import StorageActivity
    from core.temporal.names import TaskQueue, WorkflowType
    from core.temporal.storage_contracts import StorageDone, StorageInput, TenantStorageInput

_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(seconds=5),
    maximum_interval=timedelta(minutes=5),
    maximum_attempts=10,
)
_LONGEST: Final = timedelta(hours=12)
_HEARTBEAT: Final = timedelta(minutes=2)
_PER_RUN: Final = 500  # tenants before it continues as new, to bound its history


@workflow.defn(name=WorkflowType.STORAGE_MAINTENANCE)
class StorageMaintenance:
    """Tenant after tenant, a few at a time; a tenant that fails does not hold up the others.

    Each activity goes on from its last heartbeat, and doing anything twice changes nothing.
    """

    @workflow.run
    async def run(self, call: StorageInput) -> StorageDone:
        """Return what was done."""
        remaining = call.remaining
        if remaining is None:
            remaining = tuple(
                await workflow.execute_activity(
                    StorageActivity.TENANTS,
                    result_type=list[UUID],
                    task_queue=TaskQueue.MAINTENANCE,
                    start_to_close_timeout=timedelta(minutes=1),
                    retry_policy=_RETRY,
                )
            )
        done = call.done or StorageDone()
        now, later = remaining[:_PER_RUN], remaining[_PER_RUN:]
        slots = asyncio.Semaphore(call.parallel)
        for result in await asyncio.gather(*(self._tenant(slots, tenant) for tenant in now)):
            done = done.plus(result)
        if later:
            workflow.continue_as_new(call.model_copy(update={"remaining": later, "done": done}))
        return done.plus(
            await workflow.execute_activity(
                StorageActivity.RECLAIM,
                result_type=StorageDone,
                task_queue=TaskQueue.MAINTENANCE,
                start_to_close_timeout=_LONGEST,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_RETRY,
            )
        )

    async def _tenant(self, slots: asyncio.Semaphore, tenant_id: UUID) -> StorageDone:
        async with slots:
            try:
                return await workflow.execute_activity(
                    StorageActivity.APPLY,
                    TenantStorageInput(tenant_id=tenant_id),
                    result_type=StorageDone,
                    task_queue=TaskQueue.MAINTENANCE,
                    start_to_close_timeout=_LONGEST,
                    heartbeat_timeout=_HEARTBEAT,
                    retry_policy=_RETRY,
                    priority=Priority(fairness_key=str(tenant_id)),
                    summary=f"tenant {tenant_id}",
                )
            except ActivityError:
                workflow.logger.exception("a tenant's policy could not be applied")
                return StorageDone(failed=1)
