"""Figures on held-out devices.

A test engine is cut off at some cycle and the model says how many are left. So held-out lives are
cut off at random cycles, and every figure is over these truncations:

| figure | meaning |
|---|---|
| rmse, mae | error in cycles against the capped truth, which is what the model estimates |
| rmse_uncapped | the same against the true remaining cycles |
| nasa_score | mean of e^(-d/13) - 1 (early) or e^(d/10) - 1 (late), d = predicted - capped truth |
| accuracy | share of predictions within 20 cycles of the capped truth |
| rmse_last | error at the last cycle of each life, where the truth is 0 |
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from mlops.calibration import TOLERANCE, Calibration
from mlops.errors import NotEnoughDataError
from mlops.features import BASELINE, FeatureSpec, compute
from mlops.training.lives import Life

TRUNCATIONS = 20
"""Random cut-offs of each held-out life."""

Floats = NDArray[np.float64]


class Predicts(Protocol):
    """Whatever turns features into remaining cycles."""

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Return remaining cycles for each row."""
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Predictions for every cycle of the held-out lives.

    Attributes:
        predicted, true: Remaining cycles; the truth is not capped.
        device: Number of the device.
        truncation: Marks the random cut-offs.
        last: Marks the last cycle of each life.
    """

    predicted: Floats
    true: Floats
    device: NDArray[np.int64]
    truncation: NDArray[np.bool_]
    last: NDArray[np.bool_]


def nasa_score(difference: Floats) -> float:
    """Return the sum of NASA's asymmetric score; late predictions cost more than early ones."""
    early = np.exp(-np.minimum(difference, 0.0) / 13) - 1
    late = np.exp(np.maximum(difference, 0.0) / 10) - 1
    return float(np.sum(early + late))


def predict_held_out(
    lives: Iterable[Life],
    devices: Collection[UUID],
    spec: FeatureSpec,
    predict: Predicts,
    *,
    seed: int,
    on_life: Callable[[], None] = lambda: None,
) -> HeldOut:
    """Predict every cycle of the lives of `devices`.

    The cut-offs follow from the seed, the device and the life alone, so that two models are
    judged at the same ones.

    Raises:
        NotEnoughDataError: There is no such life.
    """
    numbers = {device: number for number, device in enumerate(sorted(devices))}
    columns: list[tuple[Floats, ...]] = []
    for life in lives:
        number = numbers.get(life.device_id)
        if number is None:
            continue
        features = compute(spec, life.history)
        count = len(features.positions)
        random = np.random.default_rng([seed, life.number, *life.device_id.bytes])
        # A cut-off before the baseline is complete says little about the model.
        chosen = random.integers(min(BASELINE, count - 1), count, size=TRUNCATIONS)
        truncation = np.zeros(count)
        truncation[chosen] = 1
        columns.append(
            (
                predict(features.matrix).astype(np.float64),
                life.remaining(features.positions).astype(np.float64),
                np.full(count, number, np.float64),
                truncation,
                np.eye(1, count, count - 1)[0],
            )
        )
        on_life()
    if not columns:
        raise NotEnoughDataError("no device is left to judge the model on")
    predicted, true, device, truncation, last = (
        np.concatenate(part) for part in zip(*columns, strict=True)
    )
    return HeldOut(predicted, true, device.astype(np.int64), truncation > 0, last > 0)


def figures(held_out: HeldOut, cap: int) -> dict[str, float]:
    """Return the figures that the module's table defines."""
    at = held_out.truncation
    predicted, true = held_out.predicted[at], held_out.true[at]
    difference = predicted - np.minimum(true, cap)
    return {
        "rmse": float(np.sqrt(np.mean(difference**2))),
        "mae": float(np.mean(np.abs(difference))),
        "rmse_uncapped": float(np.sqrt(np.mean((predicted - true) ** 2))),
        "nasa_score": nasa_score(difference) / len(difference),
        "accuracy": float(np.mean(np.abs(difference) <= TOLERANCE)),
        "rmse_last": float(np.sqrt(np.mean(held_out.predicted[held_out.last] ** 2))),
    }


def calibrate(held_out: HeldOut, cap: int) -> Calibration:
    """Return the distribution of errors by level of prediction, over every held-out cycle."""
    return Calibration.fit(
        held_out.predicted, held_out.true, held_out.device.astype(np.float64), cap
    )
