"""Provisions many devices: one workflow a device, registered a few at a time, counted here."""

import asyncio
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, WorkflowAlreadyStartedError
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from core.temporal.contracts import BulkProgress, BulkProvisioningInput, ProvisioningInput
    from core.temporal.names import WorkflowType, provisioning_id
    from core.temporal.provisioning_contracts import DEVICE_STAGE, DeviceStage, Stage

_GRACE: Final = timedelta(days=2)
"""Beyond the last device's expiry; bounds the wait for devices whose workflow was terminated."""


@workflow.defn(name=WorkflowType.BULK_PROVISIONING)
class BulkProvisioning:
    """The parent of the devices' workflows.

    A device can wait days for its first connection, so what is bounded is the number of devices
    that are being registered. The children outlive any one run of this workflow (and, when it is
    cancelled, this workflow itself): they report their stages by signal to its id, which stays
    the same when it continues as new.
    """

    @workflow.init
    def __init__(self, call: BulkProvisioningInput) -> None:
        self._devices = list({device.device_id: device for device in call.devices}.values())
        before = call.progress or BulkProgress(total=len(self._devices))
        self._total = before.total
        self._counts = {
            Stage.ACTIVE: before.active,
            Stage.EXPIRED: before.expired,
            Stage.FAILED: before.failed,
        }
        self._registering: set[UUID] = set()
        self._settled: set[UUID] = set()
        self._watchers: set[asyncio.Task[None]] = set()

    @workflow.run
    async def run(self, call: BulkProvisioningInput) -> BulkProgress:
        """Return the counts when every device is active, expired or failed."""
        give_up_at = call.give_up_at or workflow.now() + _GRACE + timedelta(
            seconds=max((device.expire_after for device in self._devices), default=0.0)
        )
        started = await self._start_some(call)
        remaining = self._devices[started:]
        if remaining or not await self._all_settled(give_up_at):
            # The next run has no handles of this run's children: none may be in the middle of
            # registering, where a failure shows only in the handle.
            await workflow.wait_condition(lambda: not self._registering)
            workflow.continue_as_new(
                call.model_copy(
                    update={
                        "devices": remaining,
                        "progress": self.progress(),
                        "give_up_at": give_up_at,
                    }
                )
            )
        return self.progress()

    @workflow.signal(name=DEVICE_STAGE)
    def device_stage(self, event: DeviceStage) -> None:
        """A device reached a stage."""
        if event.stage in self._counts:
            self._settle(event.device_id, event.stage)
        else:
            self._registering.discard(event.device_id)

    @workflow.query
    def progress(self) -> BulkProgress:
        """The counts now."""
        return BulkProgress(
            total=self._total,
            pending=self._open(),
            active=self._counts[Stage.ACTIVE],
            expired=self._counts[Stage.EXPIRED],
            failed=self._counts[Stage.FAILED],
        )

    async def _start_some(self, call: BulkProvisioningInput) -> int:
        started = 0
        for device in self._devices[: call.per_run]:
            await workflow.wait_condition(lambda: len(self._registering) < call.parallel)
            if workflow.info().is_continue_as_new_suggested():
                break
            self._registering.add(device.device_id)
            watcher = asyncio.create_task(self._watch(device))
            self._watchers.add(watcher)  # the loop itself keeps no reference to a task
            watcher.add_done_callback(self._watchers.discard)
            started += 1
        return started

    async def _watch(self, device: ProvisioningInput) -> None:
        try:
            child = await workflow.start_child_workflow(
                WorkflowType.DEVICE_PROVISIONING,
                device,
                id=provisioning_id(device.tenant_id, device.device_id),
                parent_close_policy=ParentClosePolicy.ABANDON,
                cancellation_type=ChildWorkflowCancellationType.ABANDON,
            )
            await child
        except (ChildWorkflowError, WorkflowAlreadyStartedError):
            # Mostly reported by signal already; not by a child that was terminated, or whose id
            # is taken.
            self._settle(device.device_id, Stage.FAILED)

    async def _all_settled(self, give_up_at: datetime) -> bool:
        """Wait; False when the history got long first."""
        try:
            await workflow.wait_condition(
                lambda: self._open() == 0 or workflow.info().is_continue_as_new_suggested(),
                timeout=max(give_up_at - workflow.now(), timedelta(seconds=1)),
                timeout_summary="until giving up",
            )
        except TimeoutError:
            self._counts[Stage.FAILED] += self._open()
        return self._open() == 0

    def _settle(self, device_id: UUID, stage: Stage) -> None:
        self._registering.discard(device_id)
        if device_id not in self._settled:
            self._settled.add(device_id)
            self._counts[stage] += 1

    def _open(self) -> int:
        return self._total - sum(self._counts.values())
