"""What an engineer would write by hand for one automation, without an interpreter."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from core.temporal import names
    from core.temporal.activity_names import AutomationActivity
    from core.temporal.contracts import Contract, WebhookDeliveryInput
    from core.temporal.steps import RunRecord, StepCall, StepDone, StepTrace

QUEUE: Final = "by-hand"
_RETRY: Final = RetryPolicy(initial_interval=timedelta(milliseconds=200))
_TIMEOUT: Final = timedelta(seconds=10)


class HandWrittenInput(Contract):
    """What fired, and where the outcome belongs."""

    tenant_id: UUID
    workflow_id: UUID
    execution_id: UUID
    device_id: UUID
    webhook_id: UUID
    trigger: dict[str, Any]


@workflow.defn
class HandWritten:
    """Condition, alarm, webhook, outcome."""

    @workflow.run
    async def run(self, call: HandWrittenInput) -> None:
        """Do it."""
        started = workflow.now()
        if call.trigger["value"] > 1420:
            message = f"{call.trigger['metric']} {call.trigger['value']}"
            alarm = await self._step(
                call, AutomationActivity.ALARM, "alarm", {"name": "hot", "message": message}
            )
            data = {"alarm": alarm.output["alarm_id"]}
            tell = await self._step(
                call,
                AutomationActivity.CREATE_WEBHOOK_DELIVERY,
                "tell",
                {"webhook": str(call.webhook_id), "event_type": "engine.hot", "data": data},
            )
            delivery_id = UUID(tell.output["delivery_id"])
            await workflow.start_child_workflow(
                names.WorkflowType.WEBHOOK_DELIVERY,
                WebhookDeliveryInput(tenant_id=call.tenant_id, delivery_id=delivery_id),
                id=names.webhook_delivery_id(call.tenant_id, delivery_id),
                task_queue=names.TaskQueue.AUTOMATION,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            )
            await self._record(call, started, alarm, tell)

    async def _step(
        self, call: HandWrittenInput, activity: str, path: str, parameters: dict[str, Any]
    ) -> StepDone:
        return await workflow.execute_local_activity(
            activity,
            StepCall(
                tenant_id=call.tenant_id,
                execution_id=call.execution_id,
                key=names.idempotency_key(workflow.info().workflow_id, path),
                device_id=call.device_id,
                parameters=parameters,
            ),
            result_type=StepDone,
            start_to_close_timeout=_TIMEOUT,
            retry_policy=_RETRY,
        )

    async def _record(
        self, call: HandWrittenInput, started: datetime, alarm: StepDone, tell: StepDone
    ) -> None:
        steps = [
            StepTrace(
                path=path,
                position=position,
                step_type=kind,
                status="completed",
                output=done.output if done else None,
                started_at=done.started_at if done else started,
                completed_at=done.completed_at if done else started,
            )
            for position, (path, kind, done) in enumerate(
                (("gate", "if", None), ("alarm", "alarm", alarm), ("tell", "webhook", tell)), 1
            )
        ]
        await workflow.execute_local_activity(
            AutomationActivity.RECORD_STATUS,
            RunRecord(
                tenant_id=call.tenant_id,
                workflow_id=call.workflow_id,
                execution_id=call.execution_id,
                steps=steps,
                status="completed",
                results={},
                at=workflow.now(),
            ),
            start_to_close_timeout=_TIMEOUT,
            retry_policy=_RETRY,
        )
