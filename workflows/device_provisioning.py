"""Brings one device into service: registered, with credentials, until its first connection."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, FailureError

with workflow.unsafe.imports_passed_through():
    from core.temporal.activity_names import ProvisioningActivity
    from core.temporal.contracts import DeviceConnected, ProvisioningInput
    from core.temporal.names import Signal, WorkflowType
    from core.temporal.provisioning_contracts import (
        DEVICE_STAGE,
        Connection,
        DeviceStage,
        ProvisioningState,
        ReminderInput,
        Stage,
        WithdrawInput,
    )

_TIMEOUT: Final = timedelta(seconds=60)
_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=30)
)


_LOOKS: Final = (5.0, 60.0)
"""Seconds after which the database is asked again: a device may connect while it is still being
registered, when its signal finds no workflow and its presence is not yet written."""


@workflow.defn(name=WorkflowType.DEVICE_PROVISIONING)
class DeviceProvisioning:
    """One device's way into service.

    The database is asked for the first connection before the wait, soon after, at the reminder
    and at the expiry: a signal that came too early or was lost leaves no working device out.
    """

    def __init__(self) -> None:
        self._stage = Stage.REGISTERING
        self._since = workflow.now()
        self._reminded_at: datetime | None = None
        self._connected_at: datetime | None = None

    @workflow.run
    async def run(self, call: ProvisioningInput) -> ProvisioningState:
        """Return `active` or `expired`.

        Cancelled, or failed for good: the device is left registered, with the credential of this
        provisioning revoked, or active when it has connected all the same.
        """
        try:
            await self._prepare(call)
            await self._enter(call, Stage.WAITING)
            await self._wait(call)
            if self._connected_at is None:
                await self._withdraw(call, Stage.EXPIRED)
            if self._connected_at is not None:
                await self._activate(call, self._connected_at)
        except (ActivityError, asyncio.CancelledError):
            await self._undo(call)
            raise
        await self._enter(call, Stage.EXPIRED if self._connected_at is None else Stage.ACTIVE)
        return self.state()

    @workflow.signal(name=Signal.DEVICE_CONNECTED)
    def device_connected(self, event: DeviceConnected) -> None:
        """The device's first connection."""
        self._connected_at = self._connected_at or event.at

    @workflow.query
    def state(self) -> ProvisioningState:
        """Where it stands."""
        return ProvisioningState(
            stage=self._stage, since=self._since, reminded_at=self._reminded_at
        )

    async def _prepare(self, call: ProvisioningInput) -> None:
        # One unit: a cancellation waits for its end, so that nothing is written after the undoing.
        steps = asyncio.create_task(self._register(call))
        try:
            await asyncio.shield(steps)
        except asyncio.CancelledError:
            await asyncio.gather(steps, return_exceptions=True)
            raise

    async def _register(self, call: ProvisioningInput) -> None:
        for step in (
            ProvisioningActivity.REGISTER,
            ProvisioningActivity.STORE_CREDENTIAL,
            ProvisioningActivity.SET_DESIRED,
        ):
            await workflow.execute_activity(
                step, call, start_to_close_timeout=_TIMEOUT, retry_policy=_RETRY
            )
        await self._look(call)

    async def _look(self, call: ProvisioningInput) -> None:
        self._note(
            await workflow.execute_activity(
                ProvisioningActivity.AWAIT_CONNECTION,
                call,
                result_type=Connection,
                start_to_close_timeout=_TIMEOUT,
                retry_policy=_RETRY,
            )
        )

    async def _wait(self, call: ProvisioningInput) -> None:
        started = workflow.now()
        for seconds in _LOOKS:
            if seconds < min(call.remind_after, call.expire_after):
                await self._connected_by(started + timedelta(seconds=seconds), "until a look")
                if self._connected_at is None:
                    await self._look(call)
        if call.remind_after < call.expire_after:
            reminder = started + timedelta(seconds=call.remind_after)
            await self._connected_by(reminder, "until the reminder")
            if self._connected_at is None:
                await self._remind(call, started)
        expiry = started + timedelta(seconds=call.expire_after)
        await self._connected_by(expiry, "until the expiry")

    async def _connected_by(self, moment: datetime, what_for: str) -> None:
        duration = moment - workflow.now()
        if self._connected_at is not None or duration <= timedelta():
            return
        try:
            await workflow.wait_condition(
                lambda: self._connected_at is not None, timeout=duration, timeout_summary=what_for
            )
        except TimeoutError:
            return

    async def _remind(self, call: ProvisioningInput, started: datetime) -> None:
        at = workflow.now()
        connection = await workflow.execute_activity(
            ProvisioningActivity.REMIND,
            ReminderInput(
                tenant_id=call.tenant_id, device_id=call.device_id, at=at, waiting_since=started
            ),
            result_type=Connection,
            start_to_close_timeout=_TIMEOUT,
            retry_policy=_RETRY,
        )
        self._note(connection)
        if connection.connected_at is None:
            self._reminded_at = at

    async def _activate(self, call: ProvisioningInput, connected_at: datetime) -> None:
        await workflow.execute_activity(
            ProvisioningActivity.ACTIVATE,
            args=[call.tenant_id, DeviceConnected(device_id=call.device_id, at=connected_at)],
            start_to_close_timeout=_TIMEOUT,
            retry_policy=_RETRY,
        )

    async def _withdraw(self, call: ProvisioningInput, stage: Stage) -> None:
        self._note(
            await workflow.execute_activity(
                ProvisioningActivity.WITHDRAW,
                WithdrawInput(
                    tenant_id=call.tenant_id,
                    device_id=call.device_id,
                    key_sha256=call.key_sha256,
                    lifecycle="expired" if stage is Stage.EXPIRED else "registered",
                ),
                result_type=Connection,
                start_to_close_timeout=_TIMEOUT,
                retry_policy=_RETRY,
            )
        )

    async def _undo(self, call: ProvisioningInput) -> None:
        self._connected_at = None  # only the database's word counts now
        await self._withdraw(call, Stage.FAILED)
        if self._connected_at is not None:
            await self._activate(call, self._connected_at)
            await self._enter(call, Stage.ACTIVE)
        else:
            await self._enter(call, Stage.FAILED)

    def _note(self, connection: Connection) -> None:
        self._connected_at = self._connected_at or connection.connected_at

    async def _enter(self, call: ProvisioningInput, stage: Stage) -> None:
        self._stage = stage
        self._since = workflow.now()
        parent = workflow.info().parent
        if parent is None:
            return
        bulk = workflow.get_external_workflow_handle(parent.workflow_id)
        try:
            await bulk.signal(DEVICE_STAGE, DeviceStage(device_id=call.device_id, stage=stage))
        except FailureError:
            workflow.logger.info("the bulk %s has ended; nobody counts", parent.workflow_id)
