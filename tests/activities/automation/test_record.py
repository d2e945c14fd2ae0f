"""The trace of runs."""

from typing import Any
from uuid import UUID

from redis.asyncio import Redis
from temporalio.testing import ActivityEnvironment

from activities.automation.record import RecordActivities
from activities.resources import Resources
from core import bus as channels
from core.db.repositories import automation as repository
from core.db.repositories.automation import NewRun
from core.db.session import Database
from core.temporal.names import run_id, stable_uuid
from core.temporal.steps import RunRecord, StepTrace
from tests.activities.automation.conftest import NOW
from tests.support.automations import (
    AskedRun,
    definition,
    execution,
    make_automation,
    trace,
)


async def prepared(owner: Database, database: Database, tenant_id: UUID) -> AskedRun:
    step = {"id": "s", "type": "set", "with": {"vars": {"x": 1}}}
    workflow_id = await make_automation(owner, tenant_id, definition(step))
    temporal_id = run_id(tenant_id, workflow_id, "e")
    run = AskedRun(tenant_id, workflow_id, stable_uuid(temporal_id), temporal_id)
    async with database.transaction(tenant_id) as session:
        await repository.prepare_run(
            session,
            tenant_id,
            NewRun(run.id, workflow_id, 1, "e", temporal_id, {}, None, dry_run=False),
        )
    return run


def record(run: AskedRun, **more: Any) -> RunRecord:
    return RunRecord(
        tenant_id=run.tenant_id, workflow_id=run.workflow_id, execution_id=run.id, at=NOW, **more
    )


def step(status: Any, **more: Any) -> StepTrace:
    return StepTrace(
        path="gate.then.s", position=1, step_type="set", status=status, started_at=NOW, **more
    )


async def test_steps_and_status_are_stored_and_a_repeated_write_changes_nothing(
    owner: Database, resources: Resources, worker_database: Database, tenant_id: UUID
) -> None:
    run = await prepared(owner, worker_database, tenant_id)
    write = RecordActivities(resources).record_status
    waiting = record(run, status="waiting", steps=[step("waiting", input={"a": "x\x00y"})])
    done = record(
        run,
        status="completed",
        results={"n": 1},
        steps=[step("completed", output={"b": [1]}, completed_at=NOW, attempt=2)],
    )
    await ActivityEnvironment().run(write, waiting)
    found = await execution(owner, run)
    assert found is not None
    assert (found.status, found.completed_at) == ("waiting", None)
    assert (await trace(owner, run))["gate.then.s"].input == {"a": "x\ufffdy"}
    for late in (done, waiting, done):
        await ActivityEnvironment().run(write, late)
    found = await execution(owner, run)
    assert found is not None
    assert (found.status, found.completed_at, found.results) == ("completed", NOW, {"n": 1})
    (stored,) = (await trace(owner, run)).values()
    assert (stored.status, stored.attempt, stored.output) == ("completed", 2, {"b": [1]})


async def test_a_run_whose_automation_was_deleted_records_nothing(
    owner: Database, resources: Resources, tenant_id: UUID
) -> None:
    gone = AskedRun(tenant_id, tenant_id, stable_uuid("nothing"), "run:nothing")
    done = record(gone, status="completed", steps=[step("completed")])
    await ActivityEnvironment().run(RecordActivities(resources).record_status, done)
    assert await execution(owner, gone) is None


async def test_dashboards_are_told_once(
    owner: Database,
    resources: Resources,
    worker_database: Database,
    bus: Redis,
    tenant_id: UUID,
) -> None:
    run = await prepared(owner, worker_database, tenant_id)
    async with bus.pubsub() as listener:
        await listener.subscribe(channels.dashboard(tenant_id))
        done = record(run, status="completed")
        for _ in range(2):
            await ActivityEnvironment().run(RecordActivities(resources).record_status, done)
        told: list[Any] = []
        while (message := await listener.get_message(timeout=0.3)) is not None:
            told.append(message)
    events = [item for item in told if item["type"] == "message"]
    assert len(events) == 1
    assert b'"status":"completed"' in events[0]["data"]
