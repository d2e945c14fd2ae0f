"""Judges freshly trained trees and makes a model of them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from core.settings import Settings
from core.temporal.contracts import TrainingInput
from core.temporal.training_contracts import BoosterRef, DatasetRef, FeaturesRef
from mlops import model as models
from mlops.features import FeatureSpec
from mlops.model import DatasetInfo, Metadata, load_booster, save_model
from mlops.training.boosting import PARAMETERS
from mlops.training.evaluation import calibrate, figures, predict_held_out
from mlops.training.lives import Snapshot


def assemble(
    settings: Settings,
    training: TrainingInput,
    dataset: DatasetRef,
    features: FeaturesRef,
    booster: BoosterRef,
    *,
    folder: Path,
    trained_at: datetime,
    on_life: Callable[[], None],
) -> tuple[str, dict[str, float]]:
    """Evaluate on the held-out devices and write the model into `folder`; blocking.

    Returns:
        The digest of the model's manifest, and the figures.

    Raises:
        ArtifactDamagedError: A file is not what the references say.
    """
    snapshot = Snapshot(settings.artifacts / dataset.path, dataset.sha256)
    spec = FeatureSpec(metrics=features.metrics)
    file = settings.artifacts / booster.path
    trees = load_booster(file.read_bytes())
    held_out = predict_held_out(
        snapshot.lives(),
        features.held_out,
        spec,
        lambda matrix: models.predict(trees, matrix),
        seed=training.seed,
        on_life=on_life,
    )
    metrics = figures(held_out, training.rul_cap)
    metadata = Metadata(
        training_id=training.training_id,
        trained_at=trained_at,
        failure_event=training.failure_event,
        rul_cap=training.rul_cap,
        rounds=booster.rounds,
        seed=training.seed,
        parameters=PARAMETERS,
        spec=spec,
        dataset=DatasetInfo(
            path=dataset.path,
            sha256=dataset.sha256,
            rows=dataset.rows,
            devices=dataset.devices,
            started=dataset.started,
            ended=dataset.ended,
        ),
        trained_on=features.trained_on,
        held_out=features.held_out,
        metrics=metrics,
        calibration=calibrate(held_out, training.rul_cap),
    )
    return save_model(folder, file, booster.sha256, metadata), metrics
