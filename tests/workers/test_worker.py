"""Worker processes: a run goes through from its cause to its effects, whatever is killed."""

import signal
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from temporalio.client import Client, WorkflowUpdateFailedError

from core.db.session import Database
from core.db.tables import WorkflowExecution
from core.settings import Settings
from core.temporal.contracts import ApprovalDecision
from core.temporal.names import TaskQueue
from core.temporal.steps import UPDATE_DECIDE
from core.webhooks import new_secret
from tests.support.automations import (
    AskedRun,
    ask_for_run,
    definition,
    execution,
    make_automation,
    trace,
)
from tests.support.receiver import receiving
from tests.support.tenants import make_device, make_profile
from tests.support.waiting import eventually
from tests.support.webhooks import make_webhook
from tests.workers.conftest import StartWorker
from workers.heartbeat import heartbeat_file


async def reached(database: Database, run: AskedRun, *statuses: str) -> WorkflowExecution:
    async def check() -> WorkflowExecution | None:
        found = await execution(database, run)
        return found if found is not None and found.status in statuses else None

    return await eventually(check, timeout=60)


@pytest.mark.slow
async def test_a_run_that_waits_survives_killed_workers_and_acts_once(
    owner: Database,
    bus: Redis,
    settings: Settings,
    temporal_client: Client,
    tenant_id: UUID,
    start_worker: StartWorker,
) -> None:
    secret = new_secret()
    device = await make_device(owner, tenant_id, await make_profile(owner, tenant_id))
    async with receiving(secret) as receiver:
        webhook_id = await make_webhook(owner, settings, tenant_id, receiver.url(), secret)
        call = {"method": "POST", "url": receiver.url(path="/call"), "body": {"n": 1}}
        workflow_id = await make_automation(
            owner,
            tenant_id,
            definition(
                {"id": "alarm", "type": "alarm", "with": {"name": "hot"}},
                {"id": "call", "type": "http_request", "with": call},
                {"id": "wait", "type": "delay", "with": {"duration": "PT4S"}},
                {
                    "id": "ok",
                    "type": "approval",
                    "with": {"to": ["role:lead"], "timeout": "P1D"},
                },
                {
                    "id": "tell",
                    "type": "webhook",
                    "with": {
                        "webhook": str(webhook_id),
                        "event_type": "e",
                        "data": {"by": "${steps.ok.by}"},
                        "wait": True,
                    },
                },
            ),
        )
        queues = (TaskQueue.AUTOMATION, TaskQueue.OUTBOUND)
        worker = start_worker(*queues)
        run = await ask_for_run(owner, bus, tenant_id, workflow_id, device_id=device.id)

        async def waits_for(path: str) -> bool:
            steps = await trace(owner, run)
            return path in steps and steps[path].status == "waiting"

        await eventually(lambda: waits_for("wait"), timeout=60)
        worker.send_signal(signal.SIGKILL)
        worker = start_worker(*queues)
        await eventually(lambda: waits_for("ok"), timeout=60)
        worker.send_signal(signal.SIGKILL)
        worker = start_worker(*queues)
        decision = ApprovalDecision(
            step="ok", approved=True, user_id=uuid4(), user_email="ada@x.org", roles=("lead",)
        )
        handle = temporal_client.get_workflow_handle(run.temporal_id)

        async def decided() -> bool:
            # The worker may have been killed after it wrote that it waits and before Temporal
            # knew: then the run takes no decision until it is there again.
            try:
                await handle.execute_update(UPDATE_DECIDE, decision)
            except WorkflowUpdateFailedError:
                return False
            return True

        await eventually(decided, timeout=30)
        done = await reached(owner, run, "completed", "failed")
    assert done.status == "completed"
    assert set((done.results or {})["steps"].values()) == {"completed"}
    calls = [item for item in receiver.received if item.target == "/call"]
    hooks = [item for item in receiver.received if item.target == "/hook"]
    assert len({item.headers["idempotency-key"] for item in calls}) == 1
    assert len(calls) == 1
    assert [item.verified for item in hooks] == [True]
    steps = await trace(owner, run)
    assert [(path, step.status) for path, step in steps.items()] == [
        ("alarm", "completed"),
        ("call", "completed"),
        ("wait", "completed"),
        ("ok", "completed"),
        ("tell", "completed"),
    ]


@pytest.mark.slow
async def test_a_worker_shows_that_it_lives_and_ends_in_order(
    settings: Settings, start_worker: StartWorker
) -> None:
    file = heartbeat_file(settings, TaskQueue.OUTBOUND)
    file.unlink(missing_ok=True)  # of a worker that was killed
    worker = start_worker(TaskQueue.OUTBOUND)
    await eventually(file.exists, timeout=30)
    worker.send_signal(signal.SIGTERM)
    assert await eventually(lambda: worker.poll() is not None, timeout=30)
    assert worker.returncode == 0
    assert not file.exists()


@pytest.mark.slow
async def test_a_worker_waits_for_servers_that_are_down_and_can_be_stopped_meanwhile(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Any
) -> None:
    monkeypatch.setenv("IOTLINKER_TEMPORAL_PORT", "1")
    worker = start_worker(TaskQueue.OUTBOUND)
    log = tmp_path / "worker-0.log"
    await eventually(lambda: "waiting_for" in log.read_text(), timeout=30)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert await eventually(lambda: worker.poll() is not None, timeout=30)
    assert worker.returncode == 0
