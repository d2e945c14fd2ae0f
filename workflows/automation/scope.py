"""What expressions of a run see."""

from datetime import datetime
from typing import Any

from core.dsl.schema import IfStep, Step
from core.temporal.contracts import RunInput
from workflows.automation.state import RunState


def step_ids(steps: list[Step]) -> list[str]:
    """Return the ids of steps and of those within them."""
    found: list[str] = []
    for step in steps:
        found.append(step.id)
        if isinstance(step, IfStep):
            found += step_ids(step.then) + step_ids(step.otherwise)
    return found


class Scope:
    """The variables of expressions: `trigger`, `device`, `steps`, `vars`, `now`."""

    def __init__(self, run: RunInput, state: RunState, steps: list[Step]) -> None:
        trigger = dict(run.trigger)
        if "time" in trigger:
            trigger["time"] = _instant(trigger["time"])
        self._trigger = trigger
        self._device = run.device or {}
        self._state = state
        # A step that has not run has no fields: `has(steps.x.y)` is answered, not an error.
        self._outputs: dict[str, dict[str, Any]] = {name: {} for name in step_ids(steps)}
        for outcome in state.outcomes.values():
            self._outputs[outcome.id] = outcome.output

    def add(self, step_id: str, output: dict[str, Any]) -> None:
        """Make the output of a step visible."""
        self._outputs[step_id] = output

    def at(self, now: datetime) -> dict[str, Any]:
        """Return the variables at an instant."""
        return {
            "trigger": self._trigger,
            "device": self._device,
            "steps": self._outputs,
            "vars": self._state.vars,
            "now": now,
        }


def _instant(value: Any) -> Any:
    """Return an instant for its ISO 8601 text, anything else as it is."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return value
