"""Anomaly and trend: robust statistics of a device's own recent history, no trained model."""

from dataclasses import dataclass
from math import erf, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidInputError
from mlops.features.rolling import FloatArray

MIN_HISTORY: Final = 20
"""Measurements below which nothing is said about what is usual."""

HISTORY: Final = 200
"""Measurements that are looked at."""

Z_LIMIT: Final = 3.5
"""A robust z beyond this marks a measurement as unusual (Iglewicz and Hoaglin, 1993)."""

_MAD_TO_SIGMA: Final = 1.4826
_MEAN_DEVIATION_TO_SIGMA: Final = 1.2533
_Z_CAP: Final = 1000.0  # a constant that moved would be infinitely far away


def _scale(x: FloatArray, center: FloatArray) -> FloatArray:
    """Return a robust standard deviation; where half of the values are equal, a less robust one."""
    absolute = np.abs(x - center)
    mad = _MAD_TO_SIGMA * np.nanmedian(absolute, axis=0)
    return np.where(mad > 0, mad, _MEAN_DEVIATION_TO_SIGMA * np.nanmean(absolute, axis=0))


def _robust_z(x: FloatArray, center: FloatArray, scale: FloatArray) -> FloatArray:
    """Return distances in robust standard deviations, `_Z_CAP` at most."""
    difference = x - center
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, difference / scale)
    return np.clip(np.nan_to_num(z, nan=0.0, posinf=_Z_CAP, neginf=-_Z_CAP), -_Z_CAP, _Z_CAP)


@dataclass(frozen=True, slots=True)
class AnomalyFinding:
    """How unlike its history the last measurement is.

    Attributes:
        z: Robust z by metric.
        probability: That the largest |z| among this many independent normal values stays below
            the one found: 0 for nothing unusual, near 1 for what chance does not explain.
        usual: Share of the history that the limit would not have marked.
    """

    z: dict[str, float]
    probability: float
    usual: float


def find_anomaly(metrics: tuple[str, ...], x: FloatArray) -> AnomalyFinding:
    """Compare the last row with those before it.

    Raises:
        InvalidInputError: There are fewer than `MIN_HISTORY` rows before it.
    """
    history, last = x[:-1], x[-1]
    known = ~np.isnan(last) & (np.sum(~np.isnan(history), axis=0) >= MIN_HISTORY)
    if not known.any():
        raise InvalidInputError(
            f"an anomaly needs {MIN_HISTORY} earlier measurements of a metric of the last message; "
            f"the device has sent {max(len(x) - 1, 0)} earlier messages"
        )
    history, last = history[:, known], last[known]
    names = [name for name, usable in zip(metrics, known, strict=True) if usable]
    center = np.nanmedian(history, axis=0)
    scale = _scale(history, center)
    z = _robust_z(last, center, scale)
    before = np.abs(_robust_z(history, center, scale)).max(axis=1)
    chance = erf(float(np.abs(z).max()) / sqrt(2)) ** len(names)
    return AnomalyFinding(
        z=dict(zip(names, z.tolist(), strict=True)),
        probability=chance,
        usual=float(np.mean(before <= Z_LIMIT)),
    )


@dataclass(frozen=True, slots=True)
class Trend:
    """A robust straight line through one metric.

    Attributes:
        slope: Theil-Sen, in the metric's unit per hour.
        level: Of the line at the last measurement.
        residuals: Measurements minus line, ascending.
        agreement: Share of pairs of measurements whose slope has the sign of the line's.
        inside: Share of the measurements within the residuals' 5 to 95 % band.
    """

    metric: str
    slope: float
    level: float
    residuals: NDArray[np.float64]
    agreement: float
    inside: float

    def at(self, hours: float) -> float:
        """Return the line's value `hours` after the last measurement."""
        return self.level + self.slope * hours

    def interval(self, hours: float) -> tuple[float, float]:
        """Return the band that 90 % of the measurements lay in, moved along the line."""
        low, high = np.quantile(self.residuals, [0.05, 0.95])
        return self.at(hours) + float(low), self.at(hours) + float(high)

    def probability_outside(self, hours: float, low: float, high: float) -> float:
        """Return the share of residuals that would lie outside `low` to `high` by then."""
        values = self.at(hours) + self.residuals
        return float(np.mean((values < low) | (values > high)))

    def hours_until_outside(self, low: float, high: float) -> float | None:
        """Return when the line leaves the range; 0 when it has left, None when it never does."""
        if not low <= self.level <= high:
            return 0.0
        if self.slope == 0:
            return None
        hours = ((high if self.slope > 0 else low) - self.level) / self.slope
        return hours if np.isfinite(hours) else None


def fit_trend(metric: str, hours: FloatArray, values: FloatArray) -> Trend:
    """Fit a line by the median of the slopes of all pairs (Theil 1950, Sen 1968).

    Args:
        metric: Its name.
        hours: Times of the measurements, ascending, the last at 0.
        values: The measurements; NaN ones are left out.

    Raises:
        InvalidInputError: Fewer than `MIN_HISTORY` measurements, or all at one instant.
    """
    known = ~np.isnan(values)
    t, v = hours[known], values[known]
    if len(v) < MIN_HISTORY:
        raise InvalidInputError(
            f"a trend needs {MIN_HISTORY} measurements of {metric}; there are {len(v)}"
        )
    older, newer = np.triu_indices(len(v), k=1)
    apart = t[newer] > t[older]
    if not apart.any():
        raise InvalidInputError(f"all measurements of {metric} carry the same time")
    slopes = (v[newer] - v[older])[apart] / (t[newer] - t[older])[apart]
    slope = float(np.median(slopes))
    level = float(np.median(v - slope * t))
    residuals = np.sort(v - level - slope * t)
    low, high = np.quantile(residuals, [0.05, 0.95])
    return Trend(
        metric=metric,
        slope=slope,
        level=level,
        residuals=residuals,
        agreement=float(np.mean(np.sign(slopes) == np.sign(slope))),
        inside=float(np.mean((residuals >= low) & (residuals <= high))),
    )


def strongest_trend(metrics: tuple[str, ...], hours: FloatArray, x: FloatArray) -> Trend:
    """Fit every metric with enough measurements; return the clearest trend.

    Raises:
        InvalidInputError: No metric has enough measurements.
    """
    enough = np.sum(~np.isnan(x), axis=0) >= MIN_HISTORY
    if not enough.any():
        raise InvalidInputError(
            f"a trend needs {MIN_HISTORY} measurements of a metric; the device has sent {len(x)} "
            "messages"
        )
    trends = [
        fit_trend(name, hours, x[:, column])
        for column, name in enumerate(metrics)
        if enough[column]
    ]
    return max(trends, key=lambda trend: abs(trend.agreement - 0.5) if trend.slope else 0.0)
