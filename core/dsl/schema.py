"""The automation language: what a definition may contain.

A definition is a tree of structured blocks, not a free graph: it maps onto structured concurrency
and can be checked without running it.
"""

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from core.dsl.fields import Duration, Name, Node
from core.dsl.steps import (
    ActionStep,
    AlarmStep,
    ApprovalStep,
    BaseStep,
    DelayStep,
    DeviceCommandStep,
    EffectStep,
    HttpRequestStep,
    IfStep,
    PredictStep,
    Retry,
    SetStep,
    Step,
    WebhookStep,
)
from core.dsl.triggers import (
    Comparison,
    ExpressionRule,
    ManualTrigger,
    TelemetryTrigger,
    Trigger,
)

__all__ = [
    "ActionStep",
    "AlarmStep",
    "ApprovalStep",
    "BaseStep",
    "Comparison",
    "Definition",
    "DelayStep",
    "DeviceCommandStep",
    "EffectStep",
    "ExpressionRule",
    "HttpRequestStep",
    "IfStep",
    "ManualTrigger",
    "PredictStep",
    "Retry",
    "RunSettings",
    "Schedule",
    "SetStep",
    "Step",
    "TelemetryTrigger",
    "Trigger",
    "WebhookStep",
    "json_schema",
]

MAX_DEPTH: Final = 8
"""Blocks within blocks; keeps a step's path within the trace's column."""
MAX_STEPS: Final = 200
MAX_TRIGGERS: Final = 20


class Schedule(Node):
    """Runs at set times, by a cron expression in a time zone."""

    cron: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    timezone: str = "UTC"


class RunSettings(Node):
    """How runs of one automation live together.

    Attributes:
        mode: `parallel`: every event starts a run, `max_runs` at a time, the rest wait their
            turn. `single`: an event is dropped while a run for the same device is going on.
        timeout: The longest a run may take.
    """

    supported_modes: ClassVar[tuple[str, ...]] = ("parallel", "single")

    mode: Literal["single", "restart", "queued", "parallel"] = "parallel"
    max_runs: int | None = Field(default=None, ge=1, le=10_000)
    timeout: Duration = "P30D"


class Definition(Node):
    """One automation. Parse with `Definition.model_validate(document)`."""

    name: Name
    description: Annotated[str, StringConstraints(max_length=2000)] = ""
    triggers: list[Trigger] = Field(default_factory=list, max_length=MAX_TRIGGERS)
    conditions: list[ExpressionRule] = Field(default_factory=list, max_length=50)
    actions: list[Step] = Field(min_length=1, max_length=MAX_STEPS)
    schedule: Schedule | None = None
    settings: RunSettings = Field(default_factory=RunSettings)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of definitions, for editors and other tools."""
    schema = Definition.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
