"""Stands in for the effects of automations where only the run itself is tested."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from temporalio import activity

from core.temporal.activity_names import AutomationActivity
from core.temporal.contracts import RunInput
from core.temporal.names import run_id, stable_uuid
from core.temporal.steps import RunRecord, StepCall, StepDone, StepTrace

Effect = Callable[[StepCall], dict[str, Any]]


class FakeEffects:
    """Records what it is asked to do; answers what it is told.

    Attributes:
        answers: Output, or a function that gives it or raises, by activity.
        calls: What was asked, in order.
        records: What the runs wrote down.
    """

    def __init__(self) -> None:
        self.answers: dict[AutomationActivity, dict[str, Any] | Effect] = {}
        self.calls: list[tuple[AutomationActivity, StepCall]] = []
        self.records: list[RunRecord] = []

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (
            self.record_steps,
            self.record_status,
            self.alarm,
            self.command,
            self.predict,
            self.http,
            self.webhook,
        )

    @property
    def statuses(self) -> list[str]:
        """The statuses that runs recorded, in order."""
        return [record.status for record in self.records if record.status is not None]

    @property
    def trace(self) -> dict[str, StepTrace]:
        """The steps as they were recorded last."""
        return {step.path: step for record in self.records for step in record.steps}

    @activity.defn(name=AutomationActivity.RECORD_STEPS)
    async def record_steps(self, record: RunRecord) -> None:
        """Keep it."""
        self.records.append(record)

    @activity.defn(name=AutomationActivity.RECORD_STATUS)
    async def record_status(self, record: RunRecord) -> None:
        """Keep it."""
        self.records.append(record)

    @activity.defn(name=AutomationActivity.ALARM)
    async def alarm(self, call: StepCall) -> StepDone:
        """Answer."""
        return self._answer(AutomationActivity.ALARM, call)

    @activity.defn(name=AutomationActivity.DEVICE_COMMAND)
    async def command(self, call: StepCall) -> StepDone:
        """Answer."""
        return self._answer(AutomationActivity.DEVICE_COMMAND, call)

    @activity.defn(name=AutomationActivity.PREDICT)
    async def predict(self, call: StepCall) -> StepDone:
        """Answer."""
        return self._answer(AutomationActivity.PREDICT, call)

    @activity.defn(name=AutomationActivity.HTTP_REQUEST)
    async def http(self, call: StepCall) -> StepDone:
        """Answer."""
        return self._answer(AutomationActivity.HTTP_REQUEST, call)

    @activity.defn(name=AutomationActivity.CREATE_WEBHOOK_DELIVERY)
    async def webhook(self, call: StepCall) -> StepDone:
        """Answer."""
        return self._answer(AutomationActivity.CREATE_WEBHOOK_DELIVERY, call)

    def _answer(self, name: AutomationActivity, call: StepCall) -> StepDone:
        self.calls.append((name, call))
        answer = self.answers.get(name, {})
        now = datetime.now(UTC)
        return StepDone(
            output=answer(call) if callable(answer) else answer,
            attempt=activity.info().attempt,
            started_at=now,
            completed_at=now,
        )


def run_input(
    definition: dict[str, Any],
    *,
    tenant_id: UUID | None = None,
    workflow_id: UUID | None = None,
    **more: Any,
) -> RunInput:
    """Return the input of a run of a definition."""
    tenant_id, workflow_id = tenant_id or uuid4(), workflow_id or uuid4()
    key = f"manual:{uuid4()}"
    given: dict[str, Any] = {"trigger": {"type": "manual", "input": {}}} | more
    return RunInput(
        tenant_id=tenant_id,
        workflow_id=workflow_id,
        execution_id=stable_uuid(run_id(tenant_id, workflow_id, key)),
        version=1,
        event_key=key,
        definition=definition,
        **given,
    )
