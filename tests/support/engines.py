"""Made engines that wear out: small data on which a model learns in a second."""

import numpy as np

from mlops.features import BASELINE, WINDOW, History
from mlops.features.rolling import FloatArray
from mlops.history import HistoricalDevice

METRICS = ("heat", "speed", "fixed")
"""The first drifts with wear, the second is noise, the third never changes."""


def wearing(seed: int, cycles: int | None = None) -> FloatArray:
    """Return an engine's cycles up to its failure, cycles x `METRICS`."""
    random = np.random.default_rng(seed)
    length = cycles or int(random.integers(80, 160))
    wear = np.clip(1 - np.arange(length)[::-1] / 80, 0, 1)
    heat = 500 + 40 * wear**2 + random.normal(0, 1, length) + random.normal(0, 3)
    return np.column_stack([heat, random.normal(9000, 5, length), np.full(length, 21.0)])


def whole(cycles: FloatArray, metrics: tuple[str, ...] = METRICS) -> History:
    """Return what training sees: every cycle."""
    return History(metrics, cycles[:BASELINE], cycles, len(cycles))


def served(cycles: FloatArray, metrics: tuple[str, ...] = METRICS) -> History:
    """Return what serving reads: the first cycles and the newest, nothing between."""
    return History(metrics, cycles[:BASELINE], cycles[-WINDOW:], len(cycles))


def fleet(count: int, *, prefix: str = "engine", first_seed: int = 0) -> list[HistoricalDevice]:
    """Return failed engines for `import_history`."""
    return [
        HistoricalDevice(f"{prefix}-{number:03d}", METRICS, wearing(first_seed + number))
        for number in range(count)
    ]
