"""What a device profile says about predictions: `configuration["prediction"]` and `["metrics"]`."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import ConfigurationError


class ActionRule(BaseModel):
    """Recommends `action` when the event is expected within `when_below_hours`."""

    when_below_hours: float = Field(gt=0)
    action: str = Field(min_length=1, max_length=500)


class PredictionSettings(BaseModel):
    """The profile's rules.

    Attributes:
        cycle_hours: Duration of one measurement cycle.
        horizon_hours: Horizon when the caller gives none.
        failure_event: Name of the device event that ends a life.
        trend_metric: Metric of trends; unset, the one with the clearest trend.
        recommended_actions: The only source of recommendations.
    """

    model_config = ConfigDict(extra="ignore")

    cycle_hours: float = Field(default=1.0, gt=0)
    horizon_hours: float = Field(default=24.0, gt=0)
    failure_event: str = "failure"
    trend_metric: str | None = None
    recommended_actions: list[ActionRule] = Field(default_factory=list)

    @classmethod
    def of(cls, configuration: dict[str, Any], profile_name: str) -> Self:
        """Read a profile's configuration.

        Raises:
            ConfigurationError: It is malformed.
        """
        try:
            return cls.model_validate(configuration.get("prediction") or {})
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise ConfigurationError(
                f"configuration.prediction.{where} of the profile {profile_name}: {fault['msg']}"
            ) from error

    def actions(self, time_to_event: float | None) -> list[str]:
        """Return the actions whose limit the expected time is below, most urgent first."""
        if time_to_event is None:
            return []
        rules = sorted(self.recommended_actions, key=lambda rule: rule.when_below_hours)
        return [rule.action for rule in rules if time_to_event < rule.when_below_hours]


def metric_range(configuration: dict[str, Any], metric: str) -> tuple[float, float] | None:
    """Return the range that the profile allows a metric, if it says so."""
    metrics = configuration.get("metrics")
    about = metrics.get(metric) if isinstance(metrics, dict) else None
    bounds = about.get("range") if isinstance(about, dict) else None
    match bounds:
        case [int() | float() as low, int() | float() as high] if low < high:
            return float(low), float(high)
        case _:
            return None
