"""Figures are over truncated lives of whole devices, the same for every model."""

from uuid import UUID

import numpy as np
import pytest

from mlops.errors import NotEnoughDataError
from mlops.features import FeatureSpec
from mlops.training.evaluation import HeldOut, figures, nasa_score, predict_held_out
from mlops.training.lives import Life
from tests.support.engines import wearing, whole

SPEC = FeatureSpec(metrics=("heat", "speed"))
LIVES = [Life(UUID(int=number), 0, whole(wearing(number, 100))) for number in range(4)]


def constant(matrix: np.ndarray) -> np.ndarray:
    return np.full(len(matrix), 30, np.float32)


def judged(seed: int = 1) -> HeldOut:
    return predict_held_out(LIVES, {UUID(int=1), UUID(int=3)}, SPEC, constant, seed=seed)


def test_only_held_out_devices_are_judged() -> None:
    held_out = judged()
    assert len(held_out.true) == 200
    assert held_out.last.sum() == 2
    assert list(held_out.true[held_out.last]) == [0, 0]


def test_two_models_are_judged_at_the_same_cuts() -> None:
    np.testing.assert_array_equal(judged().truncation, judged().truncation)
    assert not np.array_equal(judged(1).truncation, judged(2).truncation)


def test_figures_follow_their_definitions() -> None:
    yes = np.ones(3, bool)
    held_out = HeldOut(
        predicted=np.array([100.0, 40.0, 10.0]),
        true=np.array([200.0, 70.0, 0.0]),
        device=np.array([0, 0, 0]),
        truncation=yes,
        last=np.array([False, False, True]),
    )
    got = figures(held_out, 110)
    assert got["rmse"] == pytest.approx(np.sqrt((100 + 900 + 100) / 3))
    assert got["mae"] == pytest.approx(50 / 3)
    assert got["rmse_uncapped"] == pytest.approx(np.sqrt((10000 + 900 + 100) / 3))
    assert got["accuracy"] == pytest.approx(2 / 3)
    assert got["rmse_last"] == 10
    assert got["nasa_score"] == pytest.approx(
        (np.exp(10 / 13) + np.exp(30 / 13) + np.exp(1) - 3) / 3
    )


def test_late_costs_more_than_early() -> None:
    assert nasa_score(np.array([20.0])) > nasa_score(np.array([-20.0])) > 0
    assert nasa_score(np.array([0.0])) == 0


def test_nothing_to_judge_on_is_an_error() -> None:
    with pytest.raises(NotEnoughDataError):
        predict_held_out(LIVES, set(), SPEC, constant, seed=1)
