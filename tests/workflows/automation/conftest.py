"""Runs of automations on a server that skips time, with stand-ins for their effects."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

from activities.resources import ActivityFamily
from core.settings import Settings
from core.temporal.contracts import RunInput
from core.temporal.names import TaskQueue, run_id
from core.temporal.steps import RunResult
from tests.support.automation_fakes import FakeEffects
from tests.support.durable import skipping_time, working
from workers.worker import workflow_runner
from workflows.automation.state import RunState
from workflows.automation_run import AutomationRun


class Runs:
    """Starts runs."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def start(
        self, run: RunInput, state: RunState | None = None
    ) -> WorkflowHandle[AutomationRun, RunResult]:
        """Start a run."""
        return await self.client.start_workflow(
            AutomationRun.run,
            args=[run, state],
            id=run_id(run.tenant_id, run.workflow_id, run.event_key),
            task_queue=TaskQueue.AUTOMATION,
        )

    async def result(self, run: RunInput, state: RunState | None = None) -> dict[str, Any]:
        """Start a run and return its results."""
        return (await (await self.start(run, state)).result()).results


@pytest.fixture
def effects() -> FakeEffects:
    """Stand-ins for the effects."""
    return FakeEffects()


@pytest.fixture
async def runs(settings: Settings, effects: FakeEffects) -> AsyncIterator[Runs]:
    """A server that skips time, and a worker."""
    families: dict[TaskQueue, Sequence[ActivityFamily]] = {
        TaskQueue.AUTOMATION: [effects],
        TaskQueue.OUTBOUND: [effects],
    }
    runner = workflow_runner(strict=True)
    async with (
        skipping_time(settings) as environment,
        working(environment.client, [AutomationRun], families, workflow_runner=runner),
    ):
        yield Runs(environment.client)
