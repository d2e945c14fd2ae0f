"""Activities of a model training. Large data stays in files; what returns is a reference.

Every activity may be repeated: files are written beside and moved into place, a training is
registered once, and boosting goes on from its last checkpoint.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from temporalio import activity

from activities.resources import Resources
from activities.training.errors import explained
from activities.training.job import Job, run_in_thread
from core.temporal.activity_names import TrainingActivity
from core.temporal.contracts import TrainingInput, TrainingResult
from core.temporal.training_contracts import (
    BoosterRef,
    DatasetRef,
    EvaluatedModel,
    FeaturesRef,
    RegisteredModel,
)
from mlops.files import fresh_folder, publish, sha256_of

# Polars, XGBoost and MLflow are imported by the activity that needs them: together they take ten
# seconds and 300 MB, which no other process should pay for.


class TrainingActivities:
    """Activities of the workflow `ModelTraining`."""

    def __init__(self, resources: Resources) -> None:
        self._settings = resources.settings
        self._database = resources.database

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return the bound activity methods."""
        return (
            self.snapshot,
            self.features,
            self.train,
            self.evaluate,
            self.register,
            self.promote,
        )

    @activity.defn(name=TrainingActivity.SNAPSHOT)
    @explained
    async def snapshot(self, training: TrainingInput) -> DatasetRef:
        """Freeze the telemetry of every life that ended in a failure.

        Raises:
            NotEnoughDataError: Too few devices have failed.
            NotFoundError: There is no such profile.
        """
        from activities.training.snapshot import freeze

        return await freeze(self._settings, self._database, training, activity.heartbeat)

    @activity.defn(name=TrainingActivity.FEATURES)
    @explained
    async def features(self, training: TrainingInput, dataset: DatasetRef) -> FeaturesRef:
        """Compute the training matrix of the devices that are not held out."""
        from mlops.training.lives import Snapshot
        from mlops.training.matrix import build_matrix, save_matrix
        from mlops.training.split import split_devices

        final = self._folder(training) / "features"

        def work(job: Job) -> FeaturesRef:
            snapshot = Snapshot(self._settings.artifacts / dataset.path, dataset.sha256)
            devices = {life.device_id for life in snapshot.lives()}
            trained_on, held_out = split_devices(devices, training.holdout)
            matrix = build_matrix(
                snapshot, frozenset(trained_on), training.rul_cap, on_life=job.check
            )
            folder = fresh_folder(final)
            try:
                sha256 = save_matrix(matrix, folder)
                job.check()
                publish(folder, final)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return FeaturesRef(
                path=self._relative(final),
                sha256=sha256,
                rows=len(matrix.x),
                columns=matrix.x.shape[1],
                metrics=matrix.spec.metrics,
                trained_on=tuple(trained_on),
                held_out=tuple(held_out),
            )

        return await run_in_thread(work)

    @activity.defn(name=TrainingActivity.TRAIN)
    @explained
    async def train(self, training: TrainingInput, features: FeaturesRef) -> BoosterRef:
        """Fit the trees, from the last checkpoint if an earlier attempt left one."""
        from mlops.training.boosting import boost
        from mlops.training.matrix import load_matrix

        def work(job: Job) -> BoosterRef:
            matrix = load_matrix(self._settings.artifacts / features.path, features.sha256)
            job.check()

            def on_round(done: int) -> None:
                job.details = {"rounds": done, "of": training.rounds}

            boosted = boost(
                matrix,
                rounds=training.rounds,
                seed=training.seed,
                folder=self._folder(training) / "checkpoints",
                data_sha256=features.sha256,
                on_round=on_round,
                stop=job.stop,
            )
            return BoosterRef(
                path=self._relative(boosted.path),
                sha256=sha256_of(boosted.path),
                rounds=boosted.rounds,
                resumed_from=boosted.resumed_from,
            )

        return await run_in_thread(work)

    @activity.defn(name=TrainingActivity.EVALUATE)
    @explained
    async def evaluate(
        self,
        training: TrainingInput,
        dataset: DatasetRef,
        features: FeaturesRef,
        booster: BoosterRef,
    ) -> EvaluatedModel:
        """Judge the model on the held-out devices and put it together with its metadata."""
        from activities.training.assembly import assemble

        started = activity.info().started_time

        def work(job: Job) -> EvaluatedModel:
            final = self._folder(training) / "model"
            folder = fresh_folder(final)
            try:
                sha256, metrics = assemble(
                    self._settings,
                    training,
                    dataset,
                    features,
                    booster,
                    folder=folder,
                    trained_at=started,
                    on_life=job.check,
                )
                publish(folder, final)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return EvaluatedModel(path=self._relative(final), sha256=sha256, metrics=metrics)

        return await run_in_thread(work)

    @activity.defn(name=TrainingActivity.REGISTER)
    @explained
    async def register(self, training: TrainingInput, model: EvaluatedModel) -> RegisteredModel:
        """Register the model in MLflow, once a training; then drop what only training needed.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        from mlops.registry import Registry

        def work(job: Job) -> RegisteredModel:
            folder = self._settings.artifacts / model.path
            version = Registry(self._settings).register(training.model_name, folder, model.sha256)
            job.check()
            self._tidy(training)
            return RegisteredModel(name=version.name, version=version.number, run_id=version.run_id)

        return await run_in_thread(work)

    @activity.defn(name=TrainingActivity.PROMOTE)
    @explained
    async def promote(
        self,
        training: TrainingInput,
        dataset: DatasetRef,
        model: EvaluatedModel,
        registered: RegisteredModel,
    ) -> TrainingResult:
        """Make the model champion if it beats the present one, challenger if not.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        from activities.training.promotion import promote

        def work(job: Job) -> TrainingResult:
            return promote(self._settings, training, dataset, model, registered, on_life=job.check)

        return await run_in_thread(work)

    def _tidy(self, training: TrainingInput) -> None:
        """Drop all but the dataset and the model, also what killed attempts left behind."""
        folder = self._folder(training)
        datasets = self._settings.artifacts / "datasets"
        for path in (
            folder / "features",
            folder / "checkpoints",
            *folder.glob(".*"),
            *datasets.glob(f".*-{training.training_id}"),
        ):
            shutil.rmtree(path, ignore_errors=True)

    def _folder(self, training: TrainingInput) -> Path:
        return self._settings.artifacts / "trainings" / str(training.training_id)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._settings.artifacts).as_posix()
