"""Automations, their versions, their runs."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from redis.asyncio import Redis
from sqlmodel import col, select
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import Worker

from core import bus as channels
from core.db.session import Database
from core.db.tables import TriggerOutbox, Workflow, WorkflowExecution, WorkflowStepRun
from core.temporal.contracts import ApprovalDecision
from core.temporal.steps import NOT_ASKED, QUERY_STATE, UPDATE_DECIDE, ApprovalAnswer, LiveState
from tests.api.conftest import Enter, Person
from tests.support.tenants import make_profile

DEFINITION: dict[str, Any] = {
    "name": "Overheating",
    "description": "Stops the pump",
    "triggers": [
        {
            "type": "telemetry",
            "device_type": "sensor",
            "metric": "temperature",
            "when": {"op": ">", "value": 90},
        }
    ],
    "actions": [
        {"id": "ok", "type": "approval", "with": {"to": ["role:team_lead"], "timeout": "P1D"}}
    ],
}


@pytest.fixture
async def made(client: httpx.AsyncClient, owner: Database, tenant_id: UUID) -> dict[str, Any]:
    """A stored automation."""
    await make_profile(owner, tenant_id)
    answer = await client.post("/api/v1/workflows", json=DEFINITION)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_creating_answers_with_the_workflow_and_its_validation(
    made: dict[str, Any],
) -> None:
    assert made["workflow"]["version"] == 1
    assert made["workflow"]["definition"] == DEFINITION
    assert made["validation"] == {
        "valid": True,
        "warnings": [],
        "errors": [],
        "details": {"errors": [], "warnings": []},
    }


async def test_brokers_are_told_of_new_triggers(client: httpx.AsyncClient, bus: Redis) -> None:
    async with bus.pubsub(ignore_subscribe_messages=True) as notices:
        await notices.subscribe(channels.TRIGGERS_CHANGED)
        await notices.get_message(timeout=5)
        answer = await client.post("/api/v1/workflows", json=DEFINITION)
        notice = await notices.get_message(timeout=5)
    assert notice is not None
    assert answer.json()["validation"]["warnings"] == [
        "/triggers/0/device_type: there is no device profile 'sensor'"
    ]


async def test_an_invalid_definition_is_refused_with_every_place(
    client: httpx.AsyncClient,
) -> None:
    bad = {
        **DEFINITION,
        "actions": [
            {"id": "a", "type": "teleport"},
            {"id": "b", "type": "if", "condition": "steps.later.x >", "then": []},
        ],
    }
    answer = await client.post("/api/v1/workflows", json=bad)
    assert answer.status_code == 422
    problem = answer.json()
    pointers = {error["pointer"] for error in problem["errors"]}
    assert any(pointer.startswith("/actions/0") for pointer in pointers)
    assert any(pointer.startswith("/actions/1") for pointer in pointers)
    checked = await client.post("/api/v1/workflows/validate", json=bad)
    assert checked.status_code == 200
    assert checked.json()["valid"] is False
    assert {e["pointer"] for e in checked.json()["details"]["errors"]} == pointers
    assert (await client.get("/api/v1/workflows")).json()["pagination"]["total"] == 0


async def test_a_change_is_a_new_version_and_the_old_one_stays(
    client: httpx.AsyncClient, made: dict[str, Any]
) -> None:
    path = f"/api/v1/workflows/{made['workflow']['id']}"
    changed = {**DEFINITION, "name": "Overheating 2"}
    answer = await client.put(path, json={**changed, "expected_version": 1})
    assert answer.status_code == 200, answer.text
    assert answer.json()["workflow"]["version"] == 2
    assert answer.json()["workflow"]["name"] == "Overheating 2"
    versions = (await client.get(f"{path}/versions")).json()
    assert [v["version"] for v in versions["versions"]] == [2, 1]
    assert (await client.get(f"{path}/versions/1")).json()["definition"] == DEFINITION
    assert (await client.get(f"{path}/versions/3")).status_code == 404
    assert (await client.get(path)).json()["definition"] == changed


async def test_a_change_of_an_older_version_is_a_conflict(
    client: httpx.AsyncClient, made: dict[str, Any]
) -> None:
    path = f"/api/v1/workflows/{made['workflow']['id']}"
    body = {**DEFINITION, "expected_version": 1}
    assert (await client.put(path, json=body)).status_code == 200
    late = await client.put(path, json=body)
    assert late.status_code == 409
    assert "version 2" in late.json()["detail"]
    missing = await client.put(path, json=DEFINITION)
    assert missing.status_code == 422
    assert missing.json()["errors"][0]["pointer"] == "/expected_version"


async def test_a_run_by_hand_can_be_read_at_once_and_is_started_by_the_relay(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, made: dict[str, Any]
) -> None:
    path = f"/api/v1/workflows/{made['workflow']['id']}"
    answer = await client.post(f"{path}/execute", json={"input_data": {"n": 1}, "dry_run": True})
    assert answer.status_code == 202, answer.text
    execution = answer.json()
    assert execution["status"] == "pending"
    async with owner.transaction(tenant_id) as session:
        payload = await session.scalar(
            select(TriggerOutbox.payload).where(col(TriggerOutbox.tenant_id) == tenant_id)
        )
        row = await session.get(WorkflowExecution, UUID(execution["execution_id"]))
        assert payload is not None
        assert row is not None
        assert payload["event_key"] == row.event_key
        assert payload["dry_run"] is True
        assert payload["trigger"]["input"] == {"n": 1}
    listed = (await client.get("/api/v1/executions", params={"status": "pending"})).json()
    assert [run["execution_id"] for run in listed["executions"]] == [execution["execution_id"]]
    assert (await client.get(f"{path}/executions")).json()["pagination"]["total"] == 1


async def test_a_disabled_automation_is_not_started(
    client: httpx.AsyncClient, made: dict[str, Any]
) -> None:
    path = f"/api/v1/workflows/{made['workflow']['id']}"
    assert (await client.post(f"{path}/disable")).json()["enabled"] is False
    assert (await client.post(f"{path}/execute", json={})).status_code == 409
    assert (await client.post(f"{path}/enable")).json()["enabled"] is True


async def test_deleting_waits_for_runs_to_end(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, made: dict[str, Any]
) -> None:
    workflow_id = UUID(made["workflow"]["id"])
    path = f"/api/v1/workflows/{workflow_id}"
    run = (await client.post(f"{path}/execute", json={})).json()
    assert (await client.delete(path)).status_code == 409
    async with owner.transaction(tenant_id) as session:
        row = await session.get(WorkflowExecution, UUID(run["execution_id"]))
        assert row is not None
        row.status = "completed"
    assert (await client.delete(path)).status_code == 204
    async with owner.transaction(tenant_id) as session:
        assert await session.get(Workflow, workflow_id) is None


async def test_another_tenants_automation_does_not_exist(
    made: dict[str, Any], enter: Enter, owner: Database
) -> None:
    from tests.support.tenants import make_tenant

    other = (await enter(await make_tenant(owner))).client
    path = f"/api/v1/workflows/{made['workflow']['id']}"
    run = f"{path}/executions/{uuid4()}"
    tried = [
        await other.get(path),
        await other.put(path, json={**DEFINITION, "expected_version": 1}),
        await other.delete(path),
        await other.post(f"{path}/enable"),
        await other.post(f"{path}/disable"),
        await other.get(f"{path}/versions"),
        await other.get(f"{path}/versions/1"),
        await other.post(f"{path}/execute", json={}),
        await other.get(f"{path}/executions"),
        await other.get(run),
        await other.post(f"{run}/approve", json={"step": "ok"}),
        await other.post(f"{run}/reject", json={"step": "ok"}),
        await other.post(f"{run}/cancel"),
    ]
    assert [answer.status_code for answer in tried] == [404] * len(tried)


@workflow.defn(name="WaitsForADecision", sandboxed=False)  # the sandbox refuses pytest's imports
class WaitsForADecision:
    """Stands in for a run that waits for a person."""

    def __init__(self) -> None:
        self.decision: ApprovalDecision | None = None

    @workflow.run
    async def run(self) -> str:
        """Wait."""
        await workflow.wait_condition(lambda: self.decision is not None)
        return "done"

    @workflow.query(name=QUERY_STATE)
    def state(self) -> LiveState:
        """Tell that it waits."""
        return LiveState(status="waiting", steps=[], approvals=[], vars={})

    @workflow.update(name=UPDATE_DECIDE)
    async def decide(self, decision: ApprovalDecision) -> ApprovalAnswer:
        """Take the decision."""
        self.decision = decision
        return ApprovalAnswer(step=decision.step, approved=decision.approved)

    @decide.validator
    def check(self, decision: ApprovalDecision) -> None:
        """Refuse who was not asked, and what does not wait."""
        if "team_lead" not in decision.roles:
            raise ApplicationError("you were not asked", type=NOT_ASKED)
        if decision.step != "ok":
            raise ApplicationError("nothing waits there", type="StepNotWaiting")


@pytest.fixture
async def waiting(
    temporal_client: Client, owner: Database, tenant_id: UUID, made: dict[str, Any]
) -> AsyncIterator[str]:
    """The path of a run that waits for a decision on its step `ok`."""
    workflow_id, execution_id, queue = UUID(made["workflow"]["id"]), uuid4(), f"q-{uuid4()}"
    async with owner.transaction(tenant_id) as session:
        session.add(
            WorkflowExecution(
                id=execution_id,
                tenant_id=tenant_id,
                workflow_id=workflow_id,
                version=1,
                event_key=str(execution_id),
                temporal_id=f"run:{execution_id}",
                status="waiting",
            )
        )
        await session.flush()
        session.add(
            WorkflowStepRun(
                execution_id=execution_id,
                path="ok",
                tenant_id=tenant_id,
                position=0,
                step_type="approval",
                status="waiting",
            )
        )
    async with Worker(temporal_client, task_queue=queue, workflows=[WaitsForADecision]):
        await temporal_client.start_workflow(
            "WaitsForADecision", id=f"run:{execution_id}", task_queue=queue
        )
        yield f"/api/v1/workflows/{workflow_id}/executions/{execution_id}"


@pytest.mark.slow
async def test_a_person_decides_and_only_one_who_was_asked(
    admin: Person, enter: Enter, tenant_id: UUID, waiting: str, temporal_client: Client
) -> None:
    seen = (await admin.client.get(waiting)).json()
    assert seen["live"]["status"] == "waiting"
    assert [step["path"] for step in seen["steps"]] == ["ok"]
    not_asked = await admin.client.post(f"{waiting}/approve", json={"step": "ok"})
    assert not_asked.status_code == 403
    lead = (await enter(tenant_id, "team_lead")).client
    elsewhere = await lead.post(f"{waiting}/approve", json={"step": "other"})
    assert elsewhere.status_code == 409
    assert "nothing waits there" in elsewhere.json()["detail"]
    taken = await lead.post(f"{waiting}/reject", json={"step": "ok", "comment": "too soon"})
    assert taken.status_code == 200, taken.text
    assert taken.json()["approved"] is False
    handle = temporal_client.get_workflow_handle(f"run:{waiting.rpartition('/')[2]}")
    assert await handle.result() == "done"
    late = await lead.post(f"{waiting}/approve", json={"step": "ok"})
    assert late.status_code == 409


@pytest.mark.slow
async def test_a_run_is_asked_to_stop(
    client: httpx.AsyncClient, waiting: str, temporal_client: Client
) -> None:
    assert (await client.post(f"{waiting}/cancel")).status_code == 202
    handle = temporal_client.get_workflow_handle(f"run:{waiting.rpartition('/')[2]}")
    with pytest.raises(WorkflowFailureError) as failed:
        await handle.result()
    assert isinstance(failed.value.cause, CancelledError)
