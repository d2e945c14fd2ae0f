"""Gradient boosting in segments, each of which ends in a checkpoint.

A segment starts from the file of the one before and has a seed of its own. So a training that was
interrupted and one that was not give the very same model: both take the same steps.
"""

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InvalidInputError
from mlops.errors import TrainingStoppedError
from mlops.files import replace_atomically, sha256_of

if TYPE_CHECKING:  # XGBoost takes seconds and 150 MB to import
    import xgboost as xgb

    from mlops.training.matrix import Matrix

SEGMENT = 50
"""Rounds between checkpoints."""

THREADS = 2
"""Training is never given the whole machine."""

PARAMETERS: dict[str, Any] = {
    "objective": "reg:squarederror",
    "tree_method": "hist",
    "max_depth": 5,
    "eta": 0.02,
    "subsample": 0.7,
    "colsample_bytree": 0.4,
    "min_child_weight": 20,
}


@dataclass(frozen=True, slots=True)
class Boosted:
    """The finished ensemble on disk."""

    path: Path
    rounds: int
    resumed_from: int


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return whole checkpoints, newest first: a name carries rounds and digest of its file."""
    found: list[tuple[int, Path]] = []
    for path in folder.glob("rounds-*.ubj"):
        _, rounds, digest = path.stem.split("-")
        if sha256_of(path).startswith(digest):
            found.append((int(rounds), path))
    return sorted(found, reverse=True)


def _save_checkpoint(booster: "xgb.Booster", folder: Path, rounds: int) -> Path:
    content = bytes(booster.save_raw("ubj"))
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = folder / f"rounds-{rounds:06d}-{digest}.ubj"
    replace_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path


def _keep_only_for(plan: dict[str, Any], folder: Path) -> None:
    """Forget checkpoints of other data or parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    text, path = json.dumps(plan, sort_keys=True), folder / "plan.json"
    if path.exists() and path.read_text() == text:
        return
    for old in folder.glob("rounds-*.ubj"):
        old.unlink()
    replace_atomically(path, lambda temporary: temporary.write_text(text))


def boost(
    matrix: "Matrix",
    *,
    rounds: int,
    seed: int,
    folder: Path,
    data_sha256: str,
    on_round: Callable[[int], None] = lambda done: None,
    stop: threading.Event | None = None,
) -> Boosted:
    """Fit the ensemble, from the newest checkpoint in `folder` if there is one.

    Args:
        matrix: What to fit.
        rounds: Trees to grow in all.
        seed: Of row and column sampling.
        folder: Where checkpoints lie; it belongs to this training alone.
        data_sha256: Identity of the matrix; checkpoints of another are dropped.
        on_round: Called with the rounds done so far, from this thread.
        stop: Looked at after every round.

    Raises:
        TrainingStoppedError: `stop` was set.
        InvalidInputError: `rounds` is not positive.
    """
    import xgboost as xgb
    from xgboost.callback import TrainingCallback

    if rounds < 1:
        raise InvalidInputError("a training needs at least one round")
    halt = stop or threading.Event()

    class Watch(TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            on_round(model.num_boosted_rounds())
            return halt.is_set()

    plan = {"data": data_sha256, "rounds": rounds, "seed": seed, "segment": SEGMENT}
    _keep_only_for({**plan, "parameters": PARAMETERS}, folder)
    done, path = next(iter(_checkpoints(folder)), (0, None))
    resumed_from = done
    data = xgb.QuantileDMatrix(matrix.x, matrix.y, feature_names=matrix.spec.names, nthread=THREADS)
    while done < rounds:
        step = min(SEGMENT - done % SEGMENT, rounds - done)
        booster = xgb.train(
            {**PARAMETERS, "seed": seed + done // SEGMENT, "nthread": THREADS},
            data,
            num_boost_round=step,
            xgb_model=None if path is None else str(path),
            callbacks=[Watch()],
        )
        if halt.is_set():
            raise TrainingStoppedError(f"stopped after {done} of {rounds} rounds")
        done += step
        path = _save_checkpoint(booster, folder, done)
        for _, old in _checkpoints(folder)[2:]:
            old.unlink()
    assert path is not None
    return Boosted(path, done, resumed_from)
