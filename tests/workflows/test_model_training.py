"""A training runs from telemetry to the registry, and lives through the death of its worker."""

import asyncio
import sys
from typing import Any, TypeVar
from uuid import UUID

import pytest
from redis.asyncio import Redis
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ActivityError, ApplicationError

from activities.training import TrainingActivities
from core.db.session import Database
from core.settings import Settings
from core.temporal.contracts import TrainingInput, TrainingResult
from core.temporal.names import TaskQueue, WorkflowType, training_id
from core.temporal.training_contracts import BoosterRef, TrainingProgress
from mlops.training.boosting import SEGMENT
from tests.support.durable import opened_resources, working
from tests.support.training import training_input, worn_fleet
from tests.support.waiting import eventually
from workflows.model_training import ModelTraining

Result = TypeVar("Result")


async def start(client: Client, training: TrainingInput) -> WorkflowHandle[Any, TrainingResult]:
    return await client.start_workflow(
        WorkflowType.MODEL_TRAINING,
        training,
        id=training_id(training.tenant_id, training.training_id),
        task_queue=TaskQueue.AUTOMATION,
        result_type=TrainingResult,
    )


async def activity_result(
    client: Client, handle: WorkflowHandle[Any, Any], number: int, kind: type[Result]
) -> Result:
    """Return what the n-th completed activity answered."""
    completed = [
        event.activity_task_completed_event_attributes
        async for event in handle.fetch_history_events()
        if event.HasField("activity_task_completed_event_attributes")
    ]
    (value,) = await client.data_converter.decode(completed[number].result.payloads, [kind])
    return value


@pytest.mark.slow
async def test_a_training_ends_with_a_champion(
    mlflow_server: Settings,
    owner: Database,
    worker_database: Database,
    bus: Redis,
    temporal_client: Client,
    tenant_id: UUID,
) -> None:
    training = training_input(tenant_id, await worn_fleet(mlflow_server, owner, tenant_id))
    async with (
        opened_resources(mlflow_server, worker_database, bus) as resources,
        working(
            temporal_client,
            [ModelTraining],
            {TaskQueue.TRAINING: [TrainingActivities(resources)]},
        ),
    ):
        handle = await start(temporal_client, training)
        result = await handle.result()
        progress = await handle.query(ModelTraining.progress)
    assert result.promoted
    assert result.model_name == training.model_name
    assert result.metrics["rmse"] < 15
    assert progress == TrainingProgress(
        stage="done", fraction=1, detail=f"Version {result.model_version} is the champion"
    )


async def test_too_little_data_fails_at_once_and_says_why(
    postgres_server: Settings,
    owner: Database,
    worker_database: Database,
    bus: Redis,
    temporal_client: Client,
    tenant_id: UUID,
) -> None:
    profile_id = await worn_fleet(postgres_server, owner, tenant_id, engines=3)
    async with (
        opened_resources(postgres_server, worker_database, bus) as resources,
        working(
            temporal_client,
            [ModelTraining],
            {TaskQueue.TRAINING: [TrainingActivities(resources)]},
        ),
    ):
        handle = await start(temporal_client, training_input(tenant_id, profile_id))
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, ActivityError)
    cause = caught.value.cause.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "not_enough_data"
    assert "training needs at least 5" in cause.message


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_killed_worker_costs_no_finished_rounds(
    mlflow_server: Settings,
    owner: Database,
    worker_database: Database,
    bus: Redis,
    temporal_client: Client,
    tenant_id: UUID,
) -> None:
    profile_id = await worn_fleet(mlflow_server, owner, tenant_id)
    training = training_input(tenant_id, profile_id, rounds=1000)
    folder = mlflow_server.artifacts / "trainings" / str(training.training_id) / "checkpoints"
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.training_worker"
    )
    try:
        handle = await start(temporal_client, training)
        await eventually(lambda: len([*folder.glob("rounds-*.ubj")]) > 1, timeout=60)
    finally:
        worker.kill()
        await worker.wait()
    kept = max(int(path.stem.split("-")[1]) for path in folder.glob("rounds-*.ubj"))
    assert SEGMENT <= kept < 1000
    async with (
        opened_resources(mlflow_server, worker_database, bus) as resources,
        working(
            temporal_client,
            [ModelTraining],
            {TaskQueue.TRAINING: [TrainingActivities(resources)]},
        ),
    ):
        progress = await handle.query(ModelTraining.progress)
        assert progress.stage == "train"
        result = await handle.result()
    booster = await activity_result(temporal_client, handle, 2, BoosterRef)
    assert result.promoted
    assert (booster.resumed_from, booster.rounds) == (kept, 1000)
