"""How far predictions were off on devices the model had not seen, by what it predicted.

A model of remaining life is precise near the end and vague before, so one error for all would be
wrong at both ends. Held-out predictions are grouped by their level; each level keeps the
distribution of `true - predicted`.
"""

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

TOLERANCE: Final = 20
"""Cycles; a prediction within this distance of the truth counts as right in `accuracy`."""

COVERAGE: Final = 0.9
"""Share of held-out truths that the interval contains."""

_SHARES: Final = np.linspace(0.0, 1.0, 41)
_LEVELS: Final = (0.15, 0.3, 0.5, 0.7, 0.9)  # borders, as shares of the cap
_MIN_ROWS: Final = 30

Numbers = NDArray[np.floating]


class Level(BaseModel):
    """Errors of the predictions up to `upper` (and above the level before), in cycles.

    Attributes:
        upper: Highest prediction that belongs.
        quantiles: Of true minus predicted remaining cycles, at 41 even shares from 0 to 1.
        within: Share of predictions within `TOLERANCE` cycles of the (capped) truth.
        devices: Held-out devices that contributed.
    """

    model_config = ConfigDict(frozen=True)

    upper: float
    quantiles: tuple[float, ...]
    within: float
    devices: int


class Calibration(BaseModel):
    """What held-out errors say about a new prediction."""

    model_config = ConfigDict(frozen=True)

    levels: tuple[Level, ...]

    @classmethod
    def fit(cls, predicted: Numbers, true: Numbers, devices: Numbers, cap: int) -> Self:
        """Group held-out predictions by level.

        Args:
            predicted: Predicted remaining cycles.
            true: True remaining cycles, not capped, so that intervals of healthy devices reach
                beyond the cap.
            devices: Number of the device of each prediction.
            cap: Cap on the model's target.
        """
        levels: list[Level] = []
        lower = -np.inf
        for upper in (*(share * cap for share in _LEVELS), np.inf):
            inside = (predicted > lower) & (predicted <= upper)
            # A level with too few rows joins the next; the last one takes what there is.
            if inside.sum() < _MIN_ROWS and upper != np.inf:
                continue
            if not inside.any():
                break
            capped = np.minimum(true[inside], cap)
            levels.append(
                Level(
                    upper=min(float(upper), 1e9),
                    quantiles=tuple(
                        np.quantile(true[inside] - predicted[inside], _SHARES).tolist()
                    ),
                    within=float(np.mean(np.abs(capped - predicted[inside]) <= TOLERANCE)),
                    devices=len(np.unique(devices[inside])),
                )
            )
            lower = upper
        return cls(levels=tuple(levels))

    def level(self, predicted: float) -> Level:
        """Return the level of a prediction."""
        return next((one for one in self.levels if predicted <= one.upper), self.levels[-1])

    def interval(self, predicted: float) -> tuple[float, float]:
        """Return remaining cycles that `COVERAGE` of the truths at this level lay between.

        Widened to hold the prediction itself, should all of its level have erred to one side.
        """
        tail = (1 - COVERAGE) / 2
        low, high = np.interp([tail, 1 - tail], _SHARES, self.level(predicted).quantiles)
        return max(0.0, predicted + min(float(low), 0.0)), predicted + max(float(high), 0.0)

    def probability_within(self, predicted: float, horizon: float) -> float:
        """Return the share of held-out devices at this level that failed within `horizon` cycles.

        Counted relative to their own prediction: the share of errors `true - predicted` not above
        `horizon - predicted`. Never 0 or 1: n devices cannot exclude what one in n + 1 does.
        """
        level = self.level(predicted)
        share = float(np.interp(horizon - predicted, level.quantiles, _SHARES))
        least = 1 / (level.devices + 1)
        return min(max(share, least), 1 - least)

    def confidence(self, predicted: float) -> float:
        """Return the share of held-out predictions at this level within `TOLERANCE` cycles."""
        return self.level(predicted).within
