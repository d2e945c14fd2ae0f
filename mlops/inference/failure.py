"""Remaining useful life of one device, from the champion."""

from dataclasses import dataclass
from typing import Any, Final

from core.errors import InvalidInputError
from mlops.features import BASELINE, WINDOW, compute
from mlops.features.build import History
from mlops.model import RulModel

MIN_CYCLES: Final = BASELINE
"""Cycles below which the device's own baseline is not known."""

RECENT: Final = WINDOW
"""Newest cycles that a prediction reads."""

_TOP: Final = 5


@dataclass(frozen=True, slots=True)
class FailureForecast:
    """What the model expects; cycles, not hours.

    Attributes:
        remaining: Expected cycles until the failure; the model's cap means "this or more".
        interval: Remaining cycles that 90 % of the held-out truths at this level lay between.
        signals: Metrics that moved this prediction most, in cycles, by SHAP values.
    """

    remaining: float
    interval: tuple[float, float]
    probability: float
    confidence: float
    signals: list[dict[str, Any]]


def forecast_failure(model: RulModel, history: History, horizon_cycles: float) -> FailureForecast:
    """Predict from a history; blocking, a few milliseconds.

    Raises:
        InvalidInputError: The device has too few cycles, or none of the model's metrics.
    """
    if history.total < MIN_CYCLES:
        raise InvalidInputError(
            f"a failure prediction needs {MIN_CYCLES} measurements of the device; "
            f"there are {history.total}"
        )
    row = compute(model.metadata.spec, history).matrix[-1:]
    remaining = float(model.predict(row)[0])
    calibration = model.metadata.calibration
    by_metric: dict[str, float] = {}
    for feature, cycles in model.contributions(row[0]).items():
        # Names are `metric.kind`; a metric's own name may hold dots.
        metric = feature.rpartition(".")[0] or feature
        by_metric[metric] = by_metric.get(metric, 0.0) + cycles
    top = sorted(by_metric.items(), key=lambda item: -abs(item[1]))[:_TOP]
    return FailureForecast(
        remaining=remaining,
        interval=calibration.interval(remaining),
        probability=calibration.probability_within(remaining, horizon_cycles),
        confidence=calibration.confidence(remaining),
        signals=[{"signal": name, "cycles": round(cycles, 2)} for name, cycles in top],
    )
