"""Champion or challenger: the new model against the present one, on devices neither has seen."""

import shutil
from collections.abc import Callable
from uuid import uuid4

import structlog

from core.settings import Settings
from core.temporal.contracts import TrainingInput, TrainingResult
from core.temporal.training_contracts import DatasetRef, EvaluatedModel, RegisteredModel
from mlops.errors import ArtifactDamagedError
from mlops.inference.champions import install
from mlops.model import RulModel
from mlops.registry import CHALLENGER, CHAMPION, Registry, Version
from mlops.training.evaluation import figures, predict_held_out
from mlops.training.lives import Snapshot

DECIDING = "rmse"
"""The figure that decides; less is better."""

_log = structlog.get_logger(__name__)


def promote(
    settings: Settings,
    training: TrainingInput,
    dataset: DatasetRef,
    model: EvaluatedModel,
    registered: RegisteredModel,
    *,
    on_life: Callable[[], None],
) -> TrainingResult:
    """Compare, and set the alias; blocking. A repeated call comes to the same end.

    The new model is promoted when there is no champion or the champion cannot be read, and when
    it has the lower RMSE on the devices held out from both. When no device was held out from
    both, nothing can be said and the champion stays.

    Raises:
        UnavailableError: MLflow does not answer.
        ArtifactDamagedError: The new model is not what was registered.
    """
    registry = Registry(settings)
    folder = settings.artifacts / model.path
    ours = Version(registered.name, registered.version, registered.run_id, model.sha256)
    champion = registry.champion(training.model_name)
    better, theirs, metrics = True, None, model.metrics
    if champion is not None and champion.number != ours.number:
        present = _load(settings, registry, champion)
        if present is not None:
            new = RulModel.load(folder, model.sha256)
            unseen = set(new.metadata.held_out) - set(present.metadata.trained_on)
            if unseen:
                metrics = _judge(settings, training, dataset, new, unseen, on_life)
                theirs = _judge(settings, training, dataset, present, unseen, on_life)
            better = theirs is not None and metrics[DECIDING] < theirs[DECIDING]
    registry.set_alias(ours, CHAMPION if better else CHALLENGER)
    if better:
        install(settings, ours, folder)
    return TrainingResult(
        model_name=ours.name,
        model_version=ours.number,
        promoted=better,
        metrics=model.metrics,
        champion_metrics=theirs,
    )


def _judge(
    settings: Settings,
    training: TrainingInput,
    dataset: DatasetRef,
    model: RulModel,
    devices: set,
    on_life: Callable[[], None],
) -> dict[str, float]:
    """Return the figures of a model; both are judged by the new training's cap and seed."""
    snapshot = Snapshot(settings.artifacts / dataset.path, dataset.sha256)
    held_out = predict_held_out(
        snapshot.lives(),
        devices,
        model.metadata.spec,
        model.predict,
        seed=training.seed,
        on_life=on_life,
    )
    return figures(held_out, training.rul_cap)


def _load(settings: Settings, registry: Registry, version: Version) -> RulModel | None:
    """Return the present champion; None when its files are not what was registered."""
    folder = settings.artifacts / "trainings" / f".champion-{uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        return RulModel.load(registry.download(version, folder), version.sha256)
    except ArtifactDamagedError as error:
        _log.warning("champion cannot be read", model=version.name, error=error.detail)
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
