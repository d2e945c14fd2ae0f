"""Trains a model of one device profile, from stored telemetry to the registry."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, TypeVar

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from core.temporal.activity_names import TrainingActivity
    from core.temporal.contracts import Contract, TrainingInput, TrainingResult
    from core.temporal.names import TaskQueue, WorkflowType
    from core.temporal.training_contracts import (
        BoosterRef,
        DatasetRef,
        EvaluatedModel,
        FeaturesRef,
        RegisteredModel,
        TrainingProgress,
    )

# A beat comes every two seconds, so a killed worker is noticed soon.
_HEARTBEAT: Final = timedelta(seconds=20)

# Work on our own data: what fails ten times will not succeed.
_COMPUTING: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(minutes=1),
    maximum_attempts=10,
)

# MLflow may be down for hours; the schedule-to-close timeout is the end of patience.
_REGISTRY: Final = RetryPolicy(
    initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=5)
)
_REGISTRY_PATIENCE: Final = timedelta(days=1)

_Result = TypeVar("_Result", bound=Contract)


@workflow.defn(name=WorkflowType.MODEL_TRAINING)
class ModelTraining:
    """snapshot → features → train → evaluate → register → promote."""

    def __init__(self) -> None:
        self._progress = TrainingProgress(
            stage="snapshot", fraction=0.0, detail="Reading telemetry"
        )

    @workflow.query
    def progress(self) -> TrainingProgress:
        """Return the stage and the share of the work that is done."""
        return self._progress

    @workflow.run
    async def run(self, training: TrainingInput) -> TrainingResult:
        """Train; fails with type `not_enough_data` when too few devices have failed."""
        dataset = await _perform(
            TrainingActivity.SNAPSHOT,
            [training],
            DatasetRef,
            within=timedelta(hours=2),
            heartbeat=timedelta(minutes=2),  # a beat a device, and one may be long
        )
        self._at("features", 0.25, f"{dataset.rows:,} messages of {dataset.devices} devices read")
        features = await _perform(
            TrainingActivity.FEATURES, [training, dataset], FeaturesRef, within=timedelta(hours=2)
        )
        self._at("train", 0.35, f"{features.columns} features of {features.rows:,} cycles computed")
        booster = await _perform(
            TrainingActivity.TRAIN, [training, features], BoosterRef, within=timedelta(hours=12)
        )
        self._at("evaluate", 0.8, f"{booster.rounds} rounds trained")
        model = await _perform(
            TrainingActivity.EVALUATE,
            [training, dataset, features, booster],
            EvaluatedModel,
            within=timedelta(hours=1),
        )
        self._at("register", 0.9, f"RMSE {model.metrics['rmse']:.1f} cycles on held-out devices")
        registered = await _perform(
            TrainingActivity.REGISTER,
            [training, model],
            RegisteredModel,
            within=timedelta(minutes=10),
            registry=True,
        )
        self._at("promote", 0.95, f"Registered as version {registered.version}")
        result = await _perform(
            TrainingActivity.PROMOTE,
            [training, dataset, model, registered],
            TrainingResult,
            within=timedelta(minutes=30),
            registry=True,
        )
        alias = "champion" if result.promoted else "challenger"
        self._at("done", 1.0, f"Version {result.model_version} is the {alias}")
        return result

    def _at(self, stage: str, fraction: float, detail: str) -> None:
        self._progress = TrainingProgress(stage=stage, fraction=fraction, detail=detail)


async def _perform(
    activity: TrainingActivity,
    arguments: Sequence[Contract],
    result: type[_Result],
    *,
    within: timedelta,
    heartbeat: timedelta = _HEARTBEAT,
    registry: bool = False,
) -> _Result:
    """Have a training worker do one stage.

    Args:
        activity: The stage.
        arguments: Its arguments; the first is the training.
        result: What it returns.
        within: The longest one try may take.
        heartbeat: A worker that is silent for so long counts as dead.
        registry: Whether it needs MLflow, which is waited for.
    """
    training = arguments[0]
    assert isinstance(training, TrainingInput)
    return await workflow.execute_activity(
        activity,
        args=arguments,
        result_type=result,
        task_queue=TaskQueue.TRAINING,
        start_to_close_timeout=within,
        schedule_to_close_timeout=_REGISTRY_PATIENCE if registry else None,
        heartbeat_timeout=heartbeat,
        retry_policy=_REGISTRY if registry else _COMPUTING,
        priority=Priority(fairness_key=str(training.tenant_id)),
    )
