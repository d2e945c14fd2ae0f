"""What a run does with its steps."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from core.temporal.activity_names import AutomationActivity
from core.temporal.names import idempotency_key, run_id
from core.temporal.steps import DEVICE_COMMAND_TIMEOUT, StepCall
from tests.support.automation_fakes import FakeEffects, run_input
from tests.support.automations import definition
from tests.workflows.automation.conftest import Runs
from workflows.automation.state import Outcome, RunState

ALARM: dict[str, Any] = {"id": "alarm", "type": "alarm", "with": {"name": "hot"}}


def failing(kind: str, *, retry: bool = False) -> Any:
    def fail(_: StepCall) -> dict[str, Any]:
        raise ApplicationError("it failed", 1, type=kind, non_retryable=not retry)

    return fail


async def failure(runs: Runs, run: Any) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as caught:
        await runs.result(run)
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause


async def test_conditions_that_do_not_hold_end_the_run_as_completed(
    runs: Runs, effects: FakeEffects
) -> None:
    conditions = [{"expr": "true"}, {"expr": "device.metadata.site == 'plant-1'"}]
    device = {"id": str(uuid4()), "metadata": {"site": "plant-2"}}
    results = await runs.result(run_input(definition(ALARM, conditions=conditions), device=device))
    assert results["skipped"].startswith("condition 2 does not hold")
    assert effects.statuses == ["completed"]
    assert effects.calls == []


@pytest.mark.parametrize("condition", ["device.metadata", "device.missing", "1 / 0 == 1"])
async def test_a_condition_that_fails_or_is_no_boolean_fails_the_run(
    runs: Runs, effects: FakeEffects, condition: str
) -> None:
    run = run_input(
        definition(ALARM, conditions=[{"expr": condition}]), device={"metadata": {"a": 1}}
    )
    assert (await failure(runs, run)).type == "invalid_expression"
    assert effects.records[-1].status == "failed"
    assert condition in (effects.records[-1].error or {})["message"]
    assert effects.calls == []


async def test_outputs_variables_and_trigger_flow_into_later_steps(
    runs: Runs, effects: FakeEffects
) -> None:
    effects.answers[AutomationActivity.PREDICT] = {"probability": 0.9}
    device_id = str(uuid4())
    run = run_input(
        definition(
            {"id": "ask", "type": "predict", "with": {"prediction_type": "failure"}},
            {"id": "note", "type": "set", "with": {"vars": {"p": "${steps.ask.probability}"}}},
            {
                "id": "gate",
                "type": "if",
                "condition": "vars.p > 0.8",
                "then": [
                    {
                        "id": "alarm",
                        "type": "alarm",
                        "with": {
                            "name": "hot",
                            "message": "${trigger.metric} ${trigger.value + 1}",
                            "details": {"at": "${trigger.time}", "p": "${vars.p}"},
                        },
                    }
                ],
                "else": [{"id": "never", "type": "set", "with": {"vars": {"x": 1}}}],
            },
        ),
        trigger={
            "type": "telemetry",
            "device_id": device_id,
            "metric": "T50",
            "value": 1421.5,
            "time": "2026-01-02T03:04:05Z",
        },
    )
    results = await runs.result(run)
    assert results == {
        "steps": {"ask": "completed", "note": "completed", "alarm": "completed"}
        | {"gate": "completed"},
        "vars": {"p": 0.9},
    }
    name, call = effects.calls[-1]
    assert name is AutomationActivity.ALARM
    assert call.parameters == {
        "name": "hot",
        "message": "T50 1422.5",
        "details": {"at": "2026-01-02T03:04:05Z", "p": 0.9},
    }
    assert str(call.device_id) == device_id
    temporal_id = run_id(run.tenant_id, run.workflow_id, run.event_key)
    assert call.key == idempotency_key(temporal_id, "gate.then.alarm")
    assert [(path, step.position) for path, step in effects.trace.items()] == [
        ("ask", 1),
        ("note", 2),
        ("gate", 3),
        ("gate.then.alarm", 4),
    ]
    assert effects.trace["gate"].output == {"branch": "then"}
    assert effects.trace["ask"].output == {"probability": 0.9}
    assert all(step.status == "completed" for step in effects.trace.values())


async def test_a_run_of_quick_steps_is_recorded_once_and_in_one_workflow_task(
    runs: Runs, effects: FakeEffects
) -> None:
    handle = await runs.start(run_input(definition(ALARM, {**ALARM, "id": "again"})))
    await handle.result()
    assert len(effects.records) == 1
    history = await handle.fetch_history()
    tasks = [e for e in history.events if e.HasField("workflow_task_completed_event_attributes")]
    assert len(tasks) == 1


async def test_a_failed_step_fails_the_run_with_its_type_and_place(
    runs: Runs, effects: FakeEffects
) -> None:
    effects.answers[AutomationActivity.ALARM] = failing("not_found")
    cause = await failure(runs, run_input(definition(ALARM, {**ALARM, "id": "after"})))
    assert (cause.type, cause.message, cause.non_retryable) == ("not_found", "it failed", True)
    assert effects.records[-1].error == {
        "type": "not_found",
        "message": "it failed",
        "step": "alarm",
    }
    assert {path: step.status for path, step in effects.trace.items()} == {"alarm": "failed"}


async def test_continue_on_error_goes_on_and_shows_the_error(
    runs: Runs, effects: FakeEffects
) -> None:
    effects.answers[AutomationActivity.ALARM] = failing("not_found")
    results = await runs.result(
        run_input(
            definition(
                {**ALARM, "continue_on_error": True},
                {"id": "x", "type": "set", "with": {"vars": {"why": "${steps.alarm.error.type}"}}},
            )
        )
    )
    assert results["vars"] == {"why": "not_found"}
    assert results["steps"] == {"alarm": "failed", "x": "completed"}


async def test_a_block_that_continues_on_error_catches_the_failure_of_its_steps(
    runs: Runs, effects: FakeEffects
) -> None:
    effects.answers[AutomationActivity.ALARM] = failing("not_found")
    block = {
        "id": "block",
        "type": "if",
        "condition": "true",
        "continue_on_error": True,
        "then": [ALARM, {**ALARM, "id": "not_reached"}],
    }
    results = await runs.result(
        run_input(definition(block, {"id": "x", "type": "set", "with": {"vars": {"y": 1}}}))
    )
    assert results["steps"] == {"block": "failed", "x": "completed"}
    assert len(effects.calls) == 1


async def test_an_effect_is_tried_again_as_the_step_says(runs: Runs, effects: FakeEffects) -> None:
    answers = iter([failing("HttpStatus", retry=True)] * 3 + [lambda _: {"status": 200}])
    effects.answers[AutomationActivity.HTTP_REQUEST] = lambda call: next(answers)(call)
    step = {
        "id": "call",
        "type": "http_request",
        "retry": {"attempts": 4, "backoff": "PT30S"},
        "with": {"url": "https://example.com/"},
    }
    results = await runs.result(run_input(definition(step)))
    assert results["steps"] == {"call": "completed"}
    assert effects.trace["call"].attempt == 4
    assert len({call.key for _, call in effects.calls}) == 1

    effects.answers[AutomationActivity.HTTP_REQUEST] = failing("HttpStatus", retry=True)
    cause = await failure(runs, run_input(definition(step)))
    assert cause.type == "HttpStatus"


async def test_a_command_without_answer_is_sent_again_as_another_command(
    runs: Runs, effects: FakeEffects
) -> None:
    effects.answers[AutomationActivity.DEVICE_COMMAND] = failing(DEVICE_COMMAND_TIMEOUT)
    step = {
        "id": "stop",
        "type": "device_command",
        "retry": {"attempts": 3, "backoff": "PT1M"},
        "with": {"name": "throttle", "device_id": str(uuid4())},
    }
    cause = await failure(runs, run_input(definition(step)))
    assert cause.type == DEVICE_COMMAND_TIMEOUT
    assert [call.key[-2:] for _, call in effects.calls] == ["/0", "/1", "/2"]
    assert effects.trace["stop"].attempt == 3


async def test_a_disabled_step_is_skipped_and_gives_nothing(
    runs: Runs, effects: FakeEffects
) -> None:
    results = await runs.result(
        run_input(
            definition(
                {**ALARM, "disabled": True},
                {"id": "x", "type": "set", "with": {"vars": {"y": "${has(steps.alarm.id)}"}}},
            )
        )
    )
    assert results == {"steps": {"alarm": "skipped", "x": "completed"}, "vars": {"y": False}}
    assert effects.trace["alarm"].status == "skipped"
    assert effects.calls == []


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (
            {"id": "a", "type": "alarm", "with": {"name": "x", "severity": "${'bad'}"}},
            "invalid_parameters",
        ),
        ({"id": "a", "type": "delay", "with": {"duration": "${'x'}"}}, "invalid_parameters"),
        (
            {"id": "a", "type": "alarm", "with": {"name": "x", "message": "${steps.a.b}"}},
            "invalid_expression",
        ),
    ],
)
async def test_a_parameter_that_turns_out_wrong_fails_its_step(
    runs: Runs, effects: FakeEffects, step: dict[str, Any], kind: str
) -> None:
    cause = await failure(runs, run_input(definition(step)))
    assert cause.type == kind
    assert effects.trace["a"].status == "failed"
    assert effects.calls == []


async def test_a_dry_run_predicts_and_does_nothing_else(runs: Runs, effects: FakeEffects) -> None:
    effects.answers[AutomationActivity.PREDICT] = {"probability": 0.9}
    device = {"device_id": str(uuid4())}
    run = run_input(
        definition(
            {"id": "p", "type": "predict", "with": {"prediction_type": "failure", **device}},
            {"id": "wait", "type": "delay", "with": {"duration": "P2D"}},
            {"id": "ok", "type": "approval", "with": {"to": ["role:lead"]}},
            ALARM,
            {"id": "c", "type": "device_command", "with": {"name": "${'x'}", **device}},
            {"id": "h", "type": "http_request", "with": {"url": "https://example.com"}},
            {"id": "w", "type": "webhook", "with": {"webhook": "w", "event_type": "e"}},
        ),
        dry_run=True,
    )
    results = await runs.result(run)
    assert set(results["steps"].values()) == {"completed"}
    assert [name for name, _ in effects.calls] == [AutomationActivity.PREDICT]
    assert effects.trace["c"].input == {"name": "x", **device}
    assert effects.trace["c"].output == {"dry_run": True}


async def test_a_run_that_begins_anew_passes_by_what_it_has_done(
    runs: Runs, effects: FakeEffects
) -> None:
    run = run_input(
        definition(
            {
                "id": "gate",
                "type": "if",
                "condition": "false",
                "then": [ALARM, {**ALARM, "id": "second", "with": {"name": "${vars.n}"}}],
            },
            conditions=[{"expr": "false"}],
        )
    )
    state = RunState(
        deadline=datetime(2100, 1, 1, tzinfo=UTC),
        conditions_hold=True,
        outcomes={"gate.then.alarm": Outcome(id="alarm", status="completed", output={})},
        branches={"gate": "then"},
        vars={"n": "name"},
        position=2,
    )
    results = await runs.result(run, RunState.model_validate_json(state.model_dump_json()))
    assert results["steps"] == {"alarm": "completed", "second": "completed", "gate": "completed"}
    assert [call.parameters for _, call in effects.calls] == [{"name": "name"}]
    assert effects.trace["gate.then.second"].position == 3


async def test_many_steps_are_recorded_in_batches(runs: Runs, effects: FakeEffects) -> None:
    steps = [
        {"id": f"s{number}", "type": "set", "with": {"vars": {"n": number}}}
        for number in range(120)
    ]
    await runs.result(run_input(definition(*steps)))
    assert [len(record.steps) for record in effects.records] == [50, 50, 20]


async def test_a_definition_that_is_not_valid_fails_at_once(
    runs: Runs, effects: FakeEffects
) -> None:
    run = run_input({"name": "x", "actions": [{"id": "a", "type": "nothing"}]})
    assert (await failure(runs, run)).type == "InvalidDefinition"
