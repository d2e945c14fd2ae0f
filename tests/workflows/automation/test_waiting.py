"""Waits of a run: timers, people, the end of its time, cancellation."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode

from core.temporal.contracts import ApprovalDecision
from core.temporal.steps import (
    NOT_ASKED,
    QUERY_STATE,
    STEP_NOT_WAITING,
    UPDATE_DECIDE,
    ApprovalAnswer,
    LiveState,
)
from tests.support.automation_fakes import FakeEffects, run_input
from tests.support.automations import definition
from tests.support.waiting import eventually
from tests.workflows.automation.conftest import Runs

ALARM: dict[str, Any] = {"id": "alarm", "type": "alarm", "with": {"name": "hot"}}


def approval(**given: Any) -> dict[str, Any]:
    return {"id": "ok", "type": "approval", "with": {"to": ["role:lead"]} | given}


def decision(**given: Any) -> ApprovalDecision:
    made: dict[str, Any] = {
        "step": "ok",
        "approved": True,
        "user_id": uuid4(),
        "user_email": "ada@example.com",
        "roles": ("lead",),
    }
    return ApprovalDecision(**made | given)


async def state(handle: WorkflowHandle[Any, Any]) -> LiveState:
    return await handle.query(QUERY_STATE, result_type=LiveState)


async def waiting(handle: WorkflowHandle[Any, Any]) -> LiveState:
    async def check() -> LiveState | None:
        found = await state(handle)
        return found if found.status == "waiting" else None

    return await eventually(check)


async def test_a_delay_of_days_is_recorded_as_waiting_and_ends(
    runs: Runs, effects: FakeEffects
) -> None:
    delay = {"id": "wait", "type": "delay", "with": {"duration": "P3D"}}
    await runs.result(run_input(definition(delay, ALARM)))
    assert effects.statuses == ["waiting", "running", "completed"]
    step = effects.trace["wait"]
    assert step.status == "completed"
    assert step.completed_at is not None
    assert step.completed_at - step.started_at >= timedelta(days=3)


async def test_a_person_who_was_asked_decides(runs: Runs, effects: FakeEffects) -> None:
    run = run_input(definition(approval(message="Stop ${trigger.type}?"), ALARM))
    handle = await runs.start(run)
    live = await waiting(handle)
    assert [(item.step, item.to, item.message) for item in live.approvals] == [
        ("ok", ["role:lead"], "Stop manual?")
    ]
    assert [(step.path, step.status) for step in live.steps] == [("ok", "running")]
    answer = await runs.client.get_workflow_handle(handle.id).execute_update(
        UPDATE_DECIDE, decision(comment="fine"), result_type=ApprovalAnswer
    )
    assert answer == ApprovalAnswer(step="ok", approved=True)
    await handle.result()
    assert effects.trace["ok"].output == {
        "approved": True,
        "by": "ada@example.com",
        "comment": "fine",
    }
    assert len(effects.calls) == 1
    assert (await state(handle)).approvals == []


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"roles": ("user",)}, NOT_ASKED),
        ({"step": "other"}, STEP_NOT_WAITING),
    ],
)
async def test_a_decision_of_others_or_for_nothing_is_refused(
    runs: Runs, given: dict[str, Any], kind: str
) -> None:
    handle = await runs.start(run_input(definition(approval(to=["role:lead", "user:b@x.org"]))))
    await waiting(handle)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await handle.execute_update(UPDATE_DECIDE, decision(**given))
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == kind
    await handle.execute_update(UPDATE_DECIDE, decision(roles=(), user_email="B@x.org", step="ok"))
    await handle.result()
    with pytest.raises(RPCError) as ended:
        await handle.execute_update(UPDATE_DECIDE, decision())
    assert ended.value.status == RPCStatusCode.NOT_FOUND


async def test_a_rejection_ends_the_run_before_the_next_step(
    runs: Runs, effects: FakeEffects
) -> None:
    handle = await runs.start(run_input(definition(approval(), ALARM)))
    await waiting(handle)
    await handle.execute_update(UPDATE_DECIDE, decision(approved=False, comment="no"))
    results = (await handle.result()).results
    assert results == {"rejected": {"approved": False, "by": "ada@example.com", "comment": "no"}}
    assert effects.calls == []
    assert effects.statuses[-1] == "completed"
    assert effects.trace["ok"].status == "completed"


async def test_a_rejection_may_be_looked_at_instead(runs: Runs, effects: FakeEffects) -> None:
    gate = {"id": "gate", "type": "if", "condition": "!steps.ok.approved", "then": [ALARM]}
    handle = await runs.start(run_input(definition(approval(on_reject="continue"), gate)))
    await waiting(handle)
    await handle.execute_update(UPDATE_DECIDE, decision(approved=False))
    await handle.result()
    assert len(effects.calls) == 1


async def test_an_approval_that_nobody_decides_fails_rejects_or_approves(
    runs: Runs, effects: FakeEffects
) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await runs.result(run_input(definition(approval(timeout="P2D"), ALARM)))
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "ApprovalTimeout"
    rejected = await runs.result(
        run_input(definition(approval(timeout="P2D", on_timeout="reject"), ALARM))
    )
    assert rejected == {"rejected": {"approved": False, "timed_out": True}}
    assert effects.calls == []
    await runs.result(run_input(definition(approval(timeout="P2D", on_timeout="approve"), ALARM)))
    assert len(effects.calls) == 1


@pytest.mark.parametrize(
    "step", [{"id": "ok", "type": "delay", "with": {"duration": "P9D"}}, approval()]
)
async def test_a_run_that_takes_too_long_fails_and_says_so(
    runs: Runs, effects: FakeEffects, step: dict[str, Any]
) -> None:
    run = run_input(definition(step, ALARM, settings={"timeout": "P7D"}))
    with pytest.raises(WorkflowFailureError) as caught:
        await runs.result(run)
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "RunTimeout"
    assert effects.records[-1].error == {"type": "RunTimeout", "message": "took over P7D"}
    assert effects.trace["ok"].status == "failed"
    assert effects.calls == []


async def test_a_cancelled_run_is_recorded_as_cancelled(runs: Runs, effects: FakeEffects) -> None:
    handle = await runs.start(run_input(definition(approval(), ALARM)))
    await waiting(handle)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert effects.statuses == ["waiting", "cancelled"]
    assert (effects.trace["ok"].error or {})["type"] == "Cancelled"
    assert effects.calls == []
