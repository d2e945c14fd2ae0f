"""Which features a model uses."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

BASELINE: Final = 20
"""First cycles of a life that say what is normal for this very device."""

DRIFT: Final = 10
"""Length of the moving average that is compared with the baseline."""

MEANS: Final = (5, 10, 20, 30)
"""Lengths of the moving averages, in cycles."""

DEVIATION: Final = 20
"""Length of the moving standard deviation, in cycles."""

WINDOW: Final = 30
"""Longest window, in cycles: a feature depends on nothing older, the baseline aside."""

EWM_SPAN: Final = 10
"""Span of the exponential average, in cycles; weights end after `WINDOW` cycles."""

AGE_LIMIT: Final = 20_000
"""Cycles after which the age of a life counts no further."""


class FeatureSpec(BaseModel):
    """The features of a model; stored with it, so that serving computes the very same.

    Attributes:
        version: Of the definitions in this package; a model of another version is not served.
        metrics: Metrics in order; constant ones were left out when the model was trained.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    metrics: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order: by feature, then by metric; the age comes last."""
        kinds = (
            *(f"mean_{window}" for window in MEANS),
            f"std_{DEVIATION}",
            f"slope_{WINDOW}",
            f"change_{MEANS[0]}_{MEANS[-1]}",
            f"ewm_{EWM_SPAN}",
            "drift",
        )
        return [*(f"{metric}.{kind}" for kind in kinds for metric in self.metrics), "age"]
