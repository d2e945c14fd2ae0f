"""Trains a model of one device profile, from stored telemetry to the registry."""

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from core.temporal.activity_names import TrainingActivity
    from core.temporal.contracts import TrainingInput, TrainingResult
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
        fair = Priority(fairness_key=str(training.tenant_id))
        dataset: DatasetRef = await workflow.execute_activity(
            TrainingActivity.SNAPSHOT,
            training,
            result_type=DatasetRef,
            task_queue=TaskQueue.TRAINING,
            start_to_close_timeout=timedelta(hours=2),
            heartbeat_timeout=timedelta(minutes=2),  # a beat a device, and one may be long
            retry_policy=_COMPUTING,
            priority=fair,
        )
        self._at("features", 0.25, f"{dataset.rows:,} messages of {dataset.devices} devices read")
        features: FeaturesRef = await workflow.execute_activity(
            TrainingActivity.FEATURES,
            args=[training, dataset],
            result_type=FeaturesRef,
            task_queue=TaskQueue.TRAINING,
            start_to_close_timeout=timedelta(hours=2),
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=_COMPUTING,
            priority=fair,
        )
        self._at("train", 0.35, f"{features.columns} features of {features.rows:,} cycles computed")
        booster: BoosterRef = await workflow.execute_activity(
            TrainingActivity.TRAIN,
            args=[training, features],
            result_type=BoosterRef,
            task_queue=TaskQueue.TRAINING,
            start_to_close_timeout=timedelta(hours=12),
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=_COMPUTING,
            priority=fair,
        )
        self._at("evaluate", 0.8, f"{booster.rounds} rounds trained")
        model: EvaluatedModel = await workflow.execute_activity(
            TrainingActivity.EVALUATE,
            args=[training, dataset, features, booster],
            result_type=EvaluatedModel,
            task_queue=TaskQueue.TRAINING,
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=_COMPUTING,
            priority=fair,
        )
        self._at("register", 0.9, f"RMSE {model.metrics['rmse']:.1f} cycles on held-out devices")
        registered: RegisteredModel = await workflow.execute_activity(
            TrainingActivity.REGISTER,
            args=[training, model],
            result_type=RegisteredModel,
            task_queue=TaskQueue.TRAINING,
            start_to_close_timeout=timedelta(minutes=10),
            schedule_to_close_timeout=_REGISTRY_PATIENCE,
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=_REGISTRY,
            priority=fair,
        )
        self._at("promote", 0.95, f"Registered as version {registered.version}")
        result: TrainingResult = await workflow.execute_activity(
            TrainingActivity.PROMOTE,
            args=[training, dataset, model, registered],
            result_type=TrainingResult,
            task_queue=TaskQueue.TRAINING,
            start_to_close_timeout=timedelta(minutes=30),
            schedule_to_close_timeout=_REGISTRY_PATIENCE,
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=_REGISTRY,
            priority=fair,
        )
        alias = "champion" if result.promoted else "challenger"
        self._at("done", 1.0, f"Version {result.model_version} is the {alias}")
        return result

    def _at(self, stage: str, fraction: float, detail: str) -> None:
        self._progress = TrainingProgress(stage=stage, fraction=fraction, detail=detail)
