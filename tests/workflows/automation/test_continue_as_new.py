"""A run whose history becomes long goes on in a new one."""

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from core.settings import Settings
from core.temporal.activity_names import AutomationActivity
from core.temporal.client import connect
from core.temporal.names import TaskQueue
from tests.support.automation_fakes import FakeEffects, run_input
from tests.support.automations import definition
from tests.support.durable import working
from tests.support.servers import free_port, running
from tests.workflows.automation.conftest import Runs
from workers.stack.temporal import temporal
from workers.worker import workflow_runner
from workflows.automation_run import AutomationRun


@pytest.fixture
def impatient_server(settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A Temporal that asks for a new history after 20 events instead of thousands."""
    ports = {"port": free_port(), "ui_port": free_port()}
    own = dataclasses.replace(
        settings, home=tmp_path, temporal=settings.temporal.model_copy(update=ports)
    )
    service = temporal(own)
    impatient = "--dynamic-config-value=limit.historyCount.suggestContinueAsNew=20"
    service = dataclasses.replace(service, command=(*service.command, impatient))
    with running(service, own):
        yield own


@pytest.mark.slow
async def test_a_long_run_goes_on_in_a_new_history_and_does_each_step_once(
    impatient_server: Settings, effects: FakeEffects
) -> None:
    client = await connect(impatient_server)
    effects.answers[AutomationActivity.HTTP_REQUEST] = {"status": 200}

    def call(number: int) -> dict[str, Any]:
        with_body = {"url": "https://example.com", "body": "${vars.n}"}
        return {"id": f"call{number}", "type": "http_request", "with": with_body}

    steps = [
        {"id": "start", "type": "set", "with": {"vars": {"n": 7}}},
        {
            "id": "block",
            "type": "if",
            "condition": "vars.n == 7",
            # Looked at anew in the second history, this would hold no more.
            "then": [
                {"id": "change", "type": "set", "with": {"vars": {"n": 8}}},
                *(call(number) for number in range(8)),
            ],
        },
        call(8),
    ]
    families = {TaskQueue.AUTOMATION: [effects], TaskQueue.OUTBOUND: [effects]}
    async with working(
        client,
        [AutomationRun],
        {queue: list(family) for queue, family in families.items()},
        workflow_runner=workflow_runner(strict=True),
    ):
        handle = await Runs(client).start(run_input(definition(*steps)))
        async with asyncio.timeout(60):
            result = await handle.result()
    first = await client.get_workflow_handle(
        handle.id, run_id=handle.first_execution_run_id
    ).describe()
    assert first.status is WorkflowExecutionStatus.CONTINUED_AS_NEW
    assert set(result.results["steps"].values()) == {"completed"}
    assert len(result.results["steps"]) == 12
    bodies = [asked.parameters["body"] for _, asked in effects.calls]
    assert bodies == [8] * 9
    assert len({asked.key for _, asked in effects.calls}) == 9
    positions = [step.position for step in effects.trace.values()]
    assert sorted(positions) == list(range(1, 13))
    assert effects.statuses[-1] == "completed"
