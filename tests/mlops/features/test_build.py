"""One definition of features for training and serving, and none looks ahead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InvalidInputError
from mlops.features import BASELINE, WINDOW, FeatureSpec, History, compute
from tests.support.engines import METRICS, served, wearing, whole

SPEC = FeatureSpec(metrics=("heat", "speed"))


@pytest.fixture
def gappy() -> np.ndarray:
    cycles = wearing(3, 120)
    random = np.random.default_rng(4)
    cycles[random.random(cycles.shape) < 0.2] = np.nan
    return cycles


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(1, 149), seed=st.integers(0, 50))
def test_features_of_a_prefix_are_the_prefix_of_the_features(cut: int, seed: int) -> None:
    cycles = wearing(seed, 150)
    every = compute(SPEC, whole(cycles)).matrix
    prefix = compute(SPEC, whole(cycles[:cut])).matrix
    np.testing.assert_array_equal(prefix, every[:cut])


def test_changing_the_future_changes_nothing() -> None:
    cycles = wearing(1, 100)
    before = compute(SPEC, whole(cycles)).matrix[:60]
    cycles[60:] = 1e6
    np.testing.assert_array_equal(compute(SPEC, whole(cycles)).matrix[:60], before)


@pytest.mark.parametrize("length", [1, 2, BASELINE - 1, BASELINE, WINDOW, WINDOW + 1, 55, 120])
def test_serving_computes_what_training_computed(gappy: np.ndarray, length: int) -> None:
    trained = compute(SPEC, whole(gappy[:length])).matrix[-1]
    answer = compute(SPEC, served(gappy[:length]))
    np.testing.assert_array_equal(answer.matrix[-1], trained)
    assert answer.positions[-1] == length - 1


def test_a_window_with_a_gap_before_it_gives_no_row() -> None:
    answer = compute(SPEC, served(wearing(2, 100)))
    assert answer.matrix.shape == (1, len(SPEC.names))


def test_features_mean_what_they_are_called() -> None:
    cycles = wearing(5, 90)
    row = dict(zip(SPEC.names, compute(SPEC, whole(cycles)).matrix[-1], strict=True))
    heat = cycles[:, 0]
    assert row["heat.mean_5"] == pytest.approx(heat[-5:].mean(), rel=1e-6)
    assert row["heat.mean_30"] == pytest.approx(heat[-30:].mean(), rel=1e-6)
    assert row["heat.std_20"] == pytest.approx(heat[-20:].std(), rel=1e-4)
    slope = np.polyfit(np.arange(30), heat[-30:], 1)[0]
    assert row["heat.slope_30"] == pytest.approx(slope, rel=1e-4)
    assert row["heat.change_5_30"] == pytest.approx(heat[-5:].mean() - heat[-30:].mean(), rel=1e-3)
    weights = (1 - 2 / 11) ** np.arange(30)
    ewm = (heat[::-1][:30] * weights).sum() / weights.sum()
    assert row["heat.ewm_10"] == pytest.approx(ewm, rel=1e-6)
    drift = heat[-10:].mean() - heat[:BASELINE].mean()
    assert row["heat.drift"] == pytest.approx(drift, rel=1e-3)
    assert row["age"] == 89


def test_missing_values_do_not_count_and_a_missing_metric_is_unknown(gappy: np.ndarray) -> None:
    alone = gappy[:, :1]
    row = dict(zip(SPEC.names, compute(SPEC, whole(alone, ("heat",))).matrix[-1], strict=True))
    assert row["heat.mean_20"] == pytest.approx(np.nanmean(gappy[-20:, 0]), rel=1e-6)
    assert np.isnan(row["speed.mean_20"])


def test_columns_may_come_in_any_order() -> None:
    cycles = wearing(6, 60)
    turned = whole(cycles[:, ::-1], METRICS[::-1])
    np.testing.assert_array_equal(compute(SPEC, turned).matrix, compute(SPEC, whole(cycles)).matrix)


def test_a_device_with_none_of_the_metrics_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="heat, speed"):
        compute(SPEC, whole(wearing(1, 30)[:, :1], ("humidity",)))


def test_a_history_without_its_first_cycles_is_refused() -> None:
    cycles = wearing(1, 60)
    with pytest.raises(ValueError, match="first cycles"):
        History(METRICS, cycles[:3], cycles[-30:], 60)
