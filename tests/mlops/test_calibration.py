"""Intervals and probabilities are those of held-out devices at the same level."""

import numpy as np
import pytest

from mlops.calibration import Calibration

CAP = 100


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """Errors of sd 2 below 15 cycles, of sd 20 above, from 50 devices."""
    random = np.random.default_rng(1)
    predicted = random.uniform(0, CAP, 20_000)
    noise = random.normal(0, np.where(predicted < 15, 2, 20))
    devices = random.integers(0, 50, 20_000).astype(float)
    return Calibration.fit(predicted, np.maximum(predicted + noise, 0), devices, CAP)


def test_the_interval_is_narrow_where_errors_were_small(calibration: Calibration) -> None:
    low, high = calibration.interval(10)
    assert (low, high) == pytest.approx((10 - 3.3, 10 + 3.3), abs=0.4)
    low, high = calibration.interval(60)
    assert (low, high) == pytest.approx((60 - 33, 60 + 33), abs=3)


def test_the_interval_is_never_below_zero(calibration: Calibration) -> None:
    assert calibration.interval(0.5)[0] == 0


def test_probability_rises_with_the_horizon(calibration: Calibration) -> None:
    values = [calibration.probability_within(60, horizon) for horizon in (10, 40, 60, 80, 200)]
    assert values == sorted(values)
    assert values[2] == pytest.approx(0.5, abs=0.05)


def test_probability_is_never_certain(calibration: Calibration) -> None:
    assert calibration.probability_within(5, 10_000) == pytest.approx(50 / 51)
    assert calibration.probability_within(95, 0.001) == pytest.approx(1 / 51)


def test_confidence_is_the_share_within_twenty_cycles(calibration: Calibration) -> None:
    assert calibration.confidence(10) == 1
    assert calibration.confidence(40) == pytest.approx(0.68, abs=0.05)


def test_levels_with_few_predictions_join_the_next() -> None:
    few = Calibration.fit(np.arange(10.0), np.arange(10.0), np.zeros(10), CAP)
    assert len(few.levels) == 1
    assert few.level(3).devices == 1


def test_survives_json(calibration: Calibration) -> None:
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
