"""Turns a life's cycles into features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidInputError
from mlops.features.rolling import FloatArray, deviation, expanding_mean, moments
from mlops.features.spec import (
    AGE_LIMIT,
    BASELINE,
    DEVIATION,
    DRIFT,
    EWM_SPAN,
    MEANS,
    WINDOW,
    FeatureSpec,
)


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one life of a device, without what no feature needs.

    Attributes:
        metrics: Names of the columns.
        first: The life's first cycles, at most `BASELINE` rows.
        recent: Its newest cycles without a gap; the same rows as `first` in a short life.
        total: Cycles of the life up to the last row of `recent`.
    """

    metrics: tuple[str, ...]
    first: FloatArray
    recent: FloatArray
    total: int

    def __post_init__(self) -> None:
        """Refuse what cannot be a life."""
        if not len(self.recent) <= self.total:
            raise ValueError("more recent cycles than the life has")
        if len(self.first) < min(BASELINE, self.total):
            raise ValueError("the first cycles of the life are missing")


@dataclass(frozen=True, slots=True)
class Features:
    """Features of some cycles of one life.

    Attributes:
        matrix: Cycles x features.
        positions: Number of each cycle within its life, from 0.
    """

    matrix: NDArray[np.float32]
    positions: NDArray[np.int64]


def columns_of(metrics: Sequence[str], wanted: Sequence[str], x: FloatArray) -> FloatArray:
    """Return the wanted columns in order; a metric that is not there is all NaN."""
    place = {name: index for index, name in enumerate(metrics)}
    missing = np.full(len(x), np.nan)
    return np.column_stack([x[:, place[name]] if name in place else missing for name in wanted])


def compute(spec: FeatureSpec, history: History) -> Features:
    """Compute the features of the recent cycles whose windows are complete.

    A window is complete when all of it was given or the life is no older. So serving, with the
    last `WINDOW` cycles, gets one row; training, with a whole life, one for every cycle.

    Raises:
        InvalidInputError: None of the model's metrics is in the history.
    """
    if not set(spec.metrics) & set(history.metrics):
        raise InvalidInputError(
            "the device has sent none of the metrics the model was trained on: "
            + ", ".join(spec.metrics)
        )
    x = columns_of(history.metrics, spec.metrics, history.recent)
    start = history.total - len(x)
    positions = np.arange(start, history.total)
    first = columns_of(history.metrics, spec.metrics, history.first[:BASELINE])
    normal = expanding_mean(first)[np.minimum(positions, len(first) - 1)]
    window = moments(x, MEANS, EWM_SPAN)
    matrix = np.hstack(
        [
            *(window.means[length] for length in MEANS),
            deviation(x, window.means[DEVIATION], DEVIATION),
            window.slope,
            window.means[MEANS[0]] - window.means[MEANS[-1]],
            window.ewm,
            window.means[DRIFT] - normal,
            np.minimum(positions, AGE_LIMIT)[:, None],
        ]
    ).astype(np.float32)
    incomplete = 0 if start == 0 else WINDOW - 1
    return Features(matrix[incomplete:], positions[incomplete:])
