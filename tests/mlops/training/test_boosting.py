"""An interrupted training ends in the same model as one that was not."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import InvalidInputError
from mlops.errors import TrainingStoppedError
from mlops.features import FeatureSpec
from mlops.files import sha256_of
from mlops.training.boosting import SEGMENT, Boosted, boost
from mlops.training.matrix import Matrix

SPEC = FeatureSpec(metrics=("heat",))
ROUNDS = 2 * SEGMENT + 10


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    random = np.random.default_rng(1)
    x = random.normal(size=(2000, len(SPEC.names))).astype(np.float32)
    return Matrix(SPEC, x, (x[:, 0] * 5 + x[:, 1] ** 2).astype(np.float32))


def fit(matrix: Matrix, folder: Path, **options: Any) -> Boosted:
    options = {"rounds": ROUNDS, "seed": 7, "data_sha256": "data", **options}
    return boost(matrix, folder=folder, **options)


def stop_at(rounds: int) -> dict[str, Any]:
    stop = threading.Event()
    return {"stop": stop, "on_round": lambda done: done >= rounds and stop.set()}


def test_resumes_from_the_last_checkpoint_to_the_same_model(matrix: Matrix, tmp_path: Path) -> None:
    unbroken = fit(matrix, tmp_path / "a")
    with pytest.raises(TrainingStoppedError):
        fit(matrix, tmp_path / "b", **stop_at(SEGMENT + 20))
    seen: list[int] = []
    resumed = fit(matrix, tmp_path / "b", on_round=seen.append)
    assert (resumed.resumed_from, resumed.rounds) == (SEGMENT, ROUNDS)
    assert seen[0] == SEGMENT + 1
    assert sha256_of(resumed.path) == sha256_of(unbroken.path)


def test_a_finished_training_is_not_done_again(matrix: Matrix, tmp_path: Path) -> None:
    first = fit(matrix, tmp_path)
    seen: list[int] = []
    again = fit(matrix, tmp_path, on_round=seen.append)
    assert again.path == first.path
    assert seen == []


def test_a_damaged_checkpoint_is_passed_over(matrix: Matrix, tmp_path: Path) -> None:
    first = fit(matrix, tmp_path)
    digest = sha256_of(first.path)
    first.path.write_bytes(first.path.read_bytes()[:-100])
    again = fit(matrix, tmp_path)
    assert again.resumed_from == 2 * SEGMENT
    assert sha256_of(again.path) == digest


@pytest.mark.parametrize("changed", [{"data_sha256": "other"}, {"seed": 8}, {"rounds": 60}])
def test_checkpoints_of_another_training_are_not_used(
    matrix: Matrix, tmp_path: Path, changed: dict[str, Any]
) -> None:
    fit(matrix, tmp_path)
    assert fit(matrix, tmp_path, **changed).resumed_from == 0


def test_a_training_without_rounds_is_refused(matrix: Matrix, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        fit(matrix, tmp_path, rounds=0)
