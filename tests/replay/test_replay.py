"""Runs that were recorded once must go the same way with the workflows as they are now."""

import json
from typing import Any, Final

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, WorkflowReplayResult

from core.dsl.shape import STEP_TYPES
from core.temporal.names import TaskQueue, WorkflowType
from tests.replay import on_servers, scenarios
from tests.replay.record import HISTORIES
from workers.registry import capabilities
from workers.worker import workflow_runner

RECORDED: Final = {
    str(path.relative_to(HISTORIES).with_suffix("")): path.read_text()
    for path in sorted(HISTORIES.rglob("*.json"))
}


async def replay(history: WorkflowHistory) -> WorkflowReplayResult:
    replayer = Replayer(
        workflows=capabilities(TaskQueue.AUTOMATION).workflows,
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(strict=True),
    )
    return await replayer.replay_workflow(history, raise_on_replay_failure=False)


def test_every_type_of_step_and_workflow_and_every_scenario_is_recorded() -> None:
    assert set(RECORDED) == scenarios.SCENARIOS.keys() | on_servers.SCENARIOS.keys()
    assert scenarios.SCENARIOS.keys() >= STEP_TYPES
    started = "workflowExecutionStartedEventAttributes"
    types = {
        json.loads(history)["events"][0][started]["workflowType"]["name"]
        for history in RECORDED.values()
    }
    assert types == set(WorkflowType)


@pytest.mark.parametrize("name", RECORDED)
async def test_a_recorded_run_goes_the_same_way(name: str) -> None:
    result = await replay(WorkflowHistory.from_json("recorded", RECORDED[name]))
    assert result.replay_failure is None


async def test_a_run_that_would_go_another_way_is_noticed() -> None:
    history: dict[str, Any] = json.loads(RECORDED["delay"])
    other: dict[str, Any] = json.loads(RECORDED["alarm"])
    started = "workflowExecutionStartedEventAttributes"
    history["events"][0][started]["input"] = other["events"][0][started]["input"]
    result = await replay(WorkflowHistory.from_json("recorded", json.dumps(history)))
    assert result.replay_failure is not None
