"""Delivers one webhook: attempts by schedule until it is accepted or given up."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from core.temporal.activity_names import WebhookActivity
    from core.temporal.contracts import WebhookDeliveryInput
    from core.temporal.names import TaskQueue, WorkflowType
    from core.temporal.webhook_contracts import (
        AttemptInput,
        AttemptOutcome,
        AttemptResult,
        GiveUpInput,
        WebhookDeliveryResult,
    )

# An endpoint's failure is an answer of the activity. What is retried here is our own: a database
# that is down, a worker that was killed.
_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), maximum_interval=timedelta(seconds=30)
)
_LONGEST_ATTEMPT = timedelta(minutes=5)
_HEARTBEAT = timedelta(seconds=15)  # a killed worker is noticed after this


@workflow.defn(name=WorkflowType.WEBHOOK_DELIVERY)
class WebhookDelivery:
    """The waits are timers: they live through restarts of everything, and people see them.

    The schedule itself belongs to the activity, so that changing it needs no new version of this.
    """

    @workflow.run
    async def run(self, call: WebhookDeliveryInput) -> WebhookDeliveryResult:
        """Return how it ended; giving up is a result, not a failure of the workflow."""
        try:
            return await self._deliver(call)
        except (ActivityError, asyncio.CancelledError):
            await workflow.execute_activity(
                WebhookActivity.GIVE_UP,
                GiveUpInput(tenant_id=call.tenant_id, delivery_id=call.delivery_id),
                task_queue=TaskQueue.OUTBOUND,
                start_to_close_timeout=timedelta(seconds=30),
                retry_policy=_RETRY,
            )
            raise

    async def _deliver(self, call: WebhookDeliveryInput) -> WebhookDeliveryResult:
        tries = 0
        while True:
            tries += 1
            attempt = call.first_attempt + tries - 1
            result = await workflow.execute_activity(
                WebhookActivity.ATTEMPT,
                AttemptInput(
                    tenant_id=call.tenant_id,
                    delivery_id=call.delivery_id,
                    tries=tries,
                    attempt=attempt,
                    jitter=workflow.random().random(),
                ),
                result_type=AttemptResult,
                task_queue=TaskQueue.OUTBOUND,
                start_to_close_timeout=_LONGEST_ATTEMPT,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_RETRY,
                priority=Priority(fairness_key=str(call.tenant_id)),
                summary=f"attempt {attempt}",
            )
            if result.outcome is not AttemptOutcome.RETRY:
                return WebhookDeliveryResult(outcome=result.outcome, attempts=tries)
            await workflow.sleep(
                timedelta(seconds=result.retry_in or 0.0),
                summary=f"until attempt {attempt + 1}; {result.error}",
            )
