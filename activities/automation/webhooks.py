"""Stores the delivery of a webhook; the delivery workflow sends it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from temporalio import activity

from activities.automation.steps import parameters, perform
from activities.resources import Resources
from core.db.repositories import automation, webhooks
from core.dsl.steps import WebhookParameters
from core.temporal.activity_names import AutomationActivity
from core.temporal.steps import StepCall, StepDone
from core.webhooks import build_body


class WebhookStepActivities:
    """The step `webhook`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (self.create_delivery,)

    @activity.defn(name=AutomationActivity.CREATE_WEBHOOK_DELIVERY)
    async def create_delivery(self, call: StepCall) -> StepDone:
        """Store what is to be delivered; the same step stores it once, with its first body."""
        return await perform(lambda: self._create(call))

    async def _create(self, call: StepCall) -> dict[str, Any]:
        wanted = parameters(call, WebhookParameters)
        body = build_body(wanted.event_type, wanted.data, datetime.now(UTC))
        async with self._resources.database.transaction(call.tenant_id) as session:
            webhook_id = await automation.find_webhook(session, call.tenant_id, wanted.webhook)
            delivery_id = await webhooks.create_delivery(
                session,
                call.tenant_id,
                webhook_id,
                event_type=wanted.event_type,
                body=body,
                source_key=call.key,
            )
        return {"delivery_id": str(delivery_id), "webhook_id": str(webhook_id)}
