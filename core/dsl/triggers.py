"""What starts a run."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Discriminator, Field, StringConstraints, Tag

from core.dsl.fields import Duration, Expression, Node


class Comparison(Node):
    """Compares the trigger's metric with a number."""

    op: Literal[">", ">=", "<", "<=", "==", "!="]
    value: float = Field(allow_inf_nan=False)


class ExpressionRule(Node):
    """A CEL expression over `value`, `values`, `quality`, `device` and `trigger`."""

    expr: Expression


def _rule_kind(value: object) -> str:
    by_expression = isinstance(value, ExpressionRule) or (
        isinstance(value, dict) and "expr" in value
    )
    return "expression" if by_expression else "comparison"


class TelemetryTrigger(Node):
    """Fires when a metric fulfils a condition, once an activation.

    Attributes:
        device_type: Name of a device profile; unset with `device_id` unset means every device.
        for_: How long the condition must hold, by the time stamps of the measurements.
        hysteresis: How far the value must come back before it can fire again.
        cooldown: Least time between two firings for one device.
        min_quality: Measurements with a lower quality score are not looked at.
    """

    type: Literal["telemetry"]
    device_type: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    device_id: Annotated[UUID, Field(strict=False)] | None = None
    metric: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    when: Annotated[
        Annotated[Comparison, Tag("comparison")] | Annotated[ExpressionRule, Tag("expression")],
        Discriminator(_rule_kind),
    ]
    for_: Duration | None = Field(default=None, alias="for")
    hysteresis: float = Field(default=0, ge=0, allow_inf_nan=False)
    cooldown: Duration | None = None
    min_quality: int = Field(default=0, ge=0, le=100)


class ManualTrigger(Node):
    """Started by a person or program through the API; needs no declaration to be allowed."""

    type: Literal["manual"]


Trigger = Annotated[TelemetryTrigger | ManualTrigger, Field(discriminator="type")]
