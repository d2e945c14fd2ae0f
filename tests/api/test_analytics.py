"""Trainings and bulks, told by Temporal; models and predictions."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlmodel import col, select
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from core.db.session import Database
from core.db.tables import Prediction, TriggerOutbox
from core.temporal.contracts import BulkProgress, TrainingResult
from core.temporal.training_contracts import TrainingProgress
from tests.support.tenants import make_device, make_profile
from tests.support.waiting import eventually

# The sandbox refuses pytest's imports.


@workflow.defn(name="StandInTraining", sandboxed=False)
class StandInTraining:
    """Stands in for a training."""

    def __init__(self) -> None:
        self.go = False

    @workflow.run
    async def run(self, good: bool) -> TrainingResult:
        """Wait, then end well or not."""
        await workflow.wait_condition(lambda: self.go)
        if not good:
            raise ApplicationError("too few devices failed", type="TooLittleData")
        return TrainingResult(
            model_name="m", model_version="3", promoted=True, metrics={"rmse": 14.5}
        )

    @workflow.signal
    def proceed(self) -> None:
        """End."""
        self.go = True

    @workflow.query
    def progress(self) -> TrainingProgress:
        """Tell how far it is."""
        return TrainingProgress(stage="train", fraction=0.5, detail="half")


@workflow.defn(name="StandInBulk", sandboxed=False)
class StandInBulk:
    """Stands in for a bulk provisioning."""

    @workflow.run
    async def run(self, total: int) -> None:
        """End at once."""
        self.total = total

    @workflow.query
    def progress(self) -> BulkProgress:
        """Tell the counts."""
        return BulkProgress(total=self.total, pending=self.total - 1, active=1)


async def _outbox(owner: Database, tenant_id: UUID) -> list[dict[str, Any]]:
    async with owner.transaction(tenant_id) as session:
        rows = await session.scalars(
            select(TriggerOutbox.payload)
            .where(col(TriggerOutbox.tenant_id) == tenant_id)
            .order_by(col(TriggerOutbox.id))
        )
        return [dict(row) for row in rows]


async def _finish(handle: WorkflowHandle[Any, Any]) -> None:
    await handle.signal("proceed")

    async def ended() -> bool:
        return (await handle.describe()).close_time is not None

    await eventually(ended)


@pytest.mark.slow
async def test_a_training_is_followed_from_asking_to_its_end(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, temporal_client: Client
) -> None:
    await make_profile(owner, tenant_id, "turbofan")
    for good in (True, False):
        asked = await client.post("/api/v1/analytics/trainings", json={"device_type": "turbofan"})
        assert asked.status_code == 202, asked.text
        path = f"/api/v1/analytics/trainings/{asked.json()['training_id']}"
        assert (await client.get(path)).json()["status"] == "pending"
        start = (await _outbox(owner, tenant_id))[-1]
        assert start["workflow_type"] == "ModelTraining"
        queue = f"q-{uuid4()}"
        async with Worker(temporal_client, task_queue=queue, workflows=[StandInTraining]):
            handle = await temporal_client.start_workflow(
                "StandInTraining", good, id=start["workflow_id"], task_queue=queue
            )
            running = (await client.get(path)).json()
            assert running["status"] == "running"
            assert running["progress"] == {"stage": "train", "fraction": 0.5, "detail": "half"}
            await _finish(handle)
        ended = (await client.get(path)).json()
        if good:
            assert ended["status"] == "completed"
            assert ended["result"]["version"] == "3"
        else:
            assert ended["status"] == "failed"
            assert ended["error"] == "too few devices failed"


@pytest.mark.slow
async def test_a_bulk_sums_up_its_parts(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, temporal_client: Client
) -> None:
    await make_profile(owner, tenant_id)
    forms = [{"name": f"d{n}", "type": "sensor"} for n in range(1200)]
    made = (await client.post("/api/v1/devices/bulk", json={"devices": forms})).json()
    path = f"/api/v1/devices/bulk/{made['provisioning_id']}"
    counts = {"active": 0, "expired": 0, "failed": 0}
    assert (await client.get(path)).json() == {
        "provisioning_id": made["provisioning_id"],
        "total": 1200,
        "pending": 1200,
        **counts,
    }
    start = (await _outbox(owner, tenant_id))[0]
    queue = f"q-{uuid4()}"
    async with Worker(temporal_client, task_queue=queue, workflows=[StandInBulk]):
        await temporal_client.execute_workflow(
            "StandInBulk", 1000, id=start["workflow_id"], task_queue=queue
        )
        progress = (await client.get(path)).json()
    assert (progress["pending"], progress["active"]) == (999 + 200, 1)


async def test_what_is_unknown_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/api/v1/analytics/trainings/{uuid4()}")).status_code == 404
    unknown = await client.post("/api/v1/analytics/trainings", json={"device_type": "no"})
    assert unknown.status_code == 422
    assert unknown.json()["errors"][0]["pointer"] == "/device_type"


async def test_predictions_are_listed_newest_first(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID
) -> None:
    device = await make_device(owner, tenant_id, await make_profile(owner, tenant_id))
    async with owner.transaction(tenant_id) as session:
        for kind in ("failure", "trend"):
            session.add(
                Prediction(
                    tenant_id=tenant_id,
                    device_id=device.id,
                    prediction_type=kind,
                    probability=0.5,
                    confidence=0.5,
                    model_name="m",
                    model_version="1",
                )
            )
    listed = await client.get("/api/v1/analytics/predictions", params={"prediction_type": "trend"})
    assert [one["prediction_type"] for one in listed.json()["predictions"]] == ["trend"]
    assert listed.json()["predictions"][0]["model"] == "m"


async def test_a_device_that_sent_nothing_cannot_be_predicted(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID
) -> None:
    device = await make_device(owner, tenant_id, await make_profile(owner, tenant_id))
    form = {"device_id": str(device.id), "prediction_type": "anomaly"}
    answer = await client.post("/api/v1/analytics/predict", json=form)
    assert answer.status_code == 422
    assert "no measurements" in answer.json()["detail"]
