"""A decision finds a run that is still on its way back to where its trace says it waits.

That is where a worker leaves it that was killed after it wrote the trace and before Temporal knew.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from temporalio import activity
from temporalio.client import Client, WorkflowHandle

from api.workflows import executions
from core.db.session import Database
from core.db.tables import WorkflowExecution, WorkflowStepRun
from core.temporal.activity_names import AutomationActivity
from core.temporal.names import TaskQueue, run_id
from core.temporal.starts import RefusedError, Temporal
from core.temporal.steps import STEP_NOT_WAITING, RunResult, StepCall, StepDone
from tests.api.conftest import Person
from tests.support.automation_fakes import FakeEffects, run_input
from tests.support.automations import definition, make_automation
from tests.support.durable import working
from tests.support.waiting import eventually
from workflows.automation_run import AutomationRun

pytestmark = pytest.mark.slow

DEFINITION = definition(
    {"id": "call", "type": "http_request", "with": {"url": "https://example.com"}},
    {"id": "ok", "type": "approval", "with": {"to": ["role:tenant_admin"]}},
)


class HeldEffects(FakeEffects):
    """The step before the approval ends when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()

    @activity.defn(name=AutomationActivity.HTTP_REQUEST)
    async def http(self, call: StepCall) -> StepDone:
        """Answer when let go."""
        await self.let_go.wait()
        return self._answer(AutomationActivity.HTTP_REQUEST, call)


@dataclass
class ComingBack:
    """A run before its approval, and a trace that has it waiting there already.

    Attributes:
        refused: The reasons for which the run has refused decisions.
    """

    client: httpx.AsyncClient
    path: str
    run: WorkflowHandle[Any, RunResult]
    effects: HeldEffects
    refused: list[str | None]

    async def approve(self, step: str = "ok") -> httpx.Response:
        """Approve."""
        return await self.client.post(f"{self.path}/approve", json={"step": step})


@pytest.fixture
async def coming_back(
    admin: Person, owner: Database, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ComingBack]:
    workflow_id = await make_automation(owner, admin.tenant_id, DEFINITION)
    call = run_input(DEFINITION, tenant_id=admin.tenant_id, workflow_id=workflow_id)
    temporal_id = run_id(call.tenant_id, call.workflow_id, call.event_key)
    async with owner.transaction(admin.tenant_id) as session:
        session.add(
            WorkflowExecution(
                id=call.execution_id,
                tenant_id=call.tenant_id,
                workflow_id=workflow_id,
                version=1,
                event_key=call.event_key,
                temporal_id=temporal_id,
                status="waiting",
            )
        )
        await session.flush()
        for position, (path, kind, status) in enumerate(
            (("call", "http_request", "completed"), ("ok", "approval", "waiting"))
        ):
            session.add(
                WorkflowStepRun(
                    execution_id=call.execution_id,
                    path=path,
                    tenant_id=call.tenant_id,
                    position=position,
                    step_type=kind,
                    status=status,
                )
            )
    refused: list[str | None] = []
    tell = Temporal.update

    async def update(self: Temporal, workflow: str, name: str, argument: BaseModel) -> Any:
        try:
            return await tell(self, workflow, name, argument)
        except RefusedError as error:
            refused.append(error.kind)
            raise

    monkeypatch.setattr(Temporal, "update", update)
    effects = HeldEffects()
    async with working(
        temporal_client,
        [AutomationRun],
        {TaskQueue.AUTOMATION: [effects], TaskQueue.OUTBOUND: [effects]},
    ):
        run = await temporal_client.start_workflow(
            AutomationRun.run, args=[call, None], id=temporal_id, task_queue=TaskQueue.AUTOMATION
        )
        path = f"/api/v1/workflows/{workflow_id}/executions/{call.execution_id}"
        yield ComingBack(admin.client, path, run, effects, refused)
        effects.let_go.set()


async def test_a_decision_waits_until_the_run_is_back(
    coming_back: ComingBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executions, "_CATCHING_UP", (0.05,) * 400)
    async with asyncio.TaskGroup() as group:
        deciding = group.create_task(coming_back.approve())
        await eventually(lambda: coming_back.refused, timeout=30)
        coming_back.effects.let_go.set()
    answer = deciding.result()
    assert answer.status_code == 200, answer.text
    assert set(coming_back.refused) == {STEP_NOT_WAITING}
    assert (await coming_back.run.result()).status == "completed"
    output = coming_back.effects.trace["ok"].output
    assert output is not None
    assert output["approved"] is True


async def test_a_run_that_does_not_come_back_is_a_conflict_in_the_end(
    coming_back: ComingBack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executions, "_CATCHING_UP", (0.0, 0.0))
    answer = await coming_back.approve()
    assert answer.status_code == 409
    assert coming_back.refused == [STEP_NOT_WAITING] * 3
    await coming_back.run.terminate()


async def test_a_step_that_no_trace_has_waiting_is_refused_at_once(
    coming_back: ComingBack,
) -> None:
    answer = await coming_back.approve("call")
    assert answer.status_code == 409
    assert coming_back.refused == [STEP_NOT_WAITING]
    await coming_back.run.terminate()
