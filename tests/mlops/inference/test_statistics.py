"""Anomaly and trend say what a device's own history says."""

import numpy as np
import pytest

from core.errors import InvalidInputError
from mlops.inference.statistics import find_anomaly, fit_trend, strongest_trend

HOURS = np.arange(-99.0, 1.0)


def noise(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, 100)


def test_a_usual_measurement_is_no_anomaly() -> None:
    x = np.column_stack([noise(1), noise(2)])
    x[-1] = [0.1, -0.2]
    found = find_anomaly(("a", "b"), x)
    assert found.probability < 0.2
    assert found.usual > 0.97


def test_an_outlier_is_found_in_its_metric_even_among_outliers() -> None:
    x = np.column_stack([noise(1), noise(2)])
    x[10:20, 1] = 500
    x[-1, 1] = 12
    found = find_anomaly(("a", "b"), x)
    assert abs(found.z["b"]) > 8
    assert found.probability > 0.999


def test_a_constant_that_moves_is_an_anomaly_of_finite_size() -> None:
    x = np.column_stack([np.full(100, 21.0)])
    x[-1] = 22
    assert find_anomaly(("a",), x).z["a"] == 1000
    assert find_anomaly(("a",), np.full((100, 1), 21.0)).probability == 0


def test_metrics_missing_from_the_last_message_do_not_count() -> None:
    x = np.column_stack([noise(1), noise(2)])
    x[-1, 1] = np.nan
    assert set(find_anomaly(("a", "b"), x).z) == {"a"}


@pytest.mark.parametrize("rows", [1, 2, 20])
def test_too_little_history_is_refused(rows: int) -> None:
    with pytest.raises(InvalidInputError, match="20 earlier measurements"):
        find_anomaly(("a",), noise()[:rows, None])


def test_a_line_is_found_in_spite_of_outliers() -> None:
    values = 50 + 0.5 * HOURS + 0.1 * noise()
    values[::10] += 100
    trend = fit_trend("a", HOURS, values)
    assert trend.slope == pytest.approx(0.5, abs=0.02)
    assert trend.at(10) == pytest.approx(55, abs=1)
    low, high = trend.interval(10)
    assert low < 55 < high


def test_the_time_until_the_range_is_left() -> None:
    trend = fit_trend("a", HOURS, 50 + 0.5 * HOURS)
    assert trend.hours_until_outside(0, 60) == pytest.approx(20)
    assert trend.hours_until_outside(0, 40) == 0
    assert trend.probability_outside(30, 0, 60) == 1
    assert trend.probability_outside(10, 0, 60) == 0
    flat = fit_trend("a", HOURS, np.full(100, 3.0))
    assert flat.hours_until_outside(0, 10) is None


def test_the_clearest_trend_is_chosen() -> None:
    x = np.column_stack([noise(), 5 - 0.2 * HOURS + 0.1 * noise(2)])
    assert strongest_trend(("a", "b"), HOURS, x).metric == "b"


def test_a_trend_needs_measurements_at_different_times() -> None:
    with pytest.raises(InvalidInputError, match="there are 5"):
        fit_trend("a", HOURS[:5], noise()[:5])
    with pytest.raises(InvalidInputError, match="same time"):
        fit_trend("a", np.zeros(100), noise())
