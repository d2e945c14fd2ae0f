"""The shipped files are NASA's, whole."""

from pathlib import Path

import pytest

from core.errors import ConfigurationError
from mlops.datasets.turbofan import (
    SENSORS,
    engines_under_test,
    historical_devices,
    training_engines,
)


def test_training_engines_are_all_there() -> None:
    engines = training_engines()
    assert [engine.unit for engine in engines] == list(range(1, 101))
    assert sum(len(engine.cycles) for engine in engines) == 20_631
    first = dict(zip(SENSORS, engines[0].cycles[0], strict=True))
    assert (first["T24"], first["T50"], first["W32"]) == (641.82, 1400.60, 23.4190)


def test_engines_under_test_have_their_truth() -> None:
    engines = engines_under_test()
    assert sum(len(engine.cycles) for engine in engines) == 13_096
    assert (engines[0].remaining, engines[-1].remaining) == (112, 20)


def test_training_engines_become_devices() -> None:
    devices = historical_devices()
    assert (devices[0].name, devices[-1].name) == ("train-001", "train-100")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="train_FD001"):
        training_engines(tmp_path)
