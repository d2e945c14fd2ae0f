"""Causal window statistics: a row is computed from itself and the rows before it, no others.

Sums run over lags, oldest last, in a fixed order. So a row's result depends on the values in its
window alone, to the last bit, and not on how much history lies before it: what training computes
over a whole life is what serving computes from the last rows. Running sums (`cumsum`) and true
exponential averages would not give that.

Windows reach back only as far as there are rows; missing values (NaN) do not count.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class Moments:
    """Statistics of windows that end at each row; every array is rows x metrics.

    Attributes:
        means: Averages by window length.
        slope: Least-squares slope per cycle over the longest window; NaN below two values.
        ewm: Exponentially weighted average over the longest window.
    """

    means: dict[int, FloatArray]
    slope: FloatArray
    ewm: FloatArray


def _ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def moments(x: FloatArray, lengths: tuple[int, ...], span: int) -> Moments:
    """Compute averages of several windows, slope and exponential average in one pass.

    Args:
        x: Rows (cycles, in order) x metrics.
        lengths: Window lengths, ascending; the last is that of the slope and the average.
        span: Of the exponential average: weights fall by 1 - 2 / (span + 1) a cycle.
    """
    rows = len(x)
    present = ~np.isnan(x)
    values, ones = np.where(present, x, 0.0), present.astype(np.float64)
    total, count = np.zeros_like(values), np.zeros_like(values)
    by_lag, lags, lags_squared = (np.zeros_like(values) for _ in range(3))
    weighted, weights = np.zeros_like(values), np.zeros_like(values)
    decay, weight = 1.0 - 2.0 / (span + 1.0), 1.0
    means: dict[int, FloatArray] = {}
    for lag in range(lengths[-1]):
        if lag < rows:
            v, one = values[: rows - lag], ones[: rows - lag]
            total[lag:] += v
            count[lag:] += one
            by_lag[lag:] += lag * v
            lags[lag:] += lag * one
            lags_squared[lag:] += lag * lag * one
            weighted[lag:] += weight * v
            weights[lag:] += weight * one
        weight *= decay
        if lag + 1 in lengths:
            means[lag + 1] = _ratio(total, count)
    # Least squares on t = -lag: slope = (sum tv - sum t * mean v) / (sum t^2 - (sum t)^2 / n).
    covariance = lags * means[lengths[-1]] - by_lag
    variance = lags_squared - _ratio(lags * lags, count)
    return Moments(means, _ratio(covariance, np.nan_to_num(variance)), _ratio(weighted, weights))


def deviation(x: FloatArray, mean: FloatArray, length: int) -> FloatArray:
    """Return the standard deviation of the window, given its average."""
    rows = len(x)
    squares, count = np.zeros_like(x), np.zeros_like(x)
    for lag in range(min(length, rows)):
        v = x[: rows - lag]
        present = ~np.isnan(v)
        difference = np.where(present, v - mean[lag:], 0.0)
        squares[lag:] += difference * difference
        count[lag:] += present
    return np.sqrt(_ratio(squares, count))


def expanding_mean(x: FloatArray) -> FloatArray:
    """Return the average of all rows up to each row; NaN until there is a value."""
    present = ~np.isnan(x)
    return _ratio(
        np.cumsum(np.where(present, x, 0.0), axis=0), np.cumsum(present, axis=0, dtype=np.float64)
    )
