"""Everything a run remembers, in one model: what survives when its history is begun anew."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from core.temporal.steps import RunStatus, StepStatus, StepTrace


class Outcome(BaseModel):
    """How a step that will not run again ended; `output` is what expressions see."""

    id: str
    status: StepStatus
    output: dict[str, Any] = Field(default_factory=dict)


class RunState(BaseModel):
    """The memory of a run.

    Attributes:
        deadline: When the run is too late.
        conditions_hold: They were checked; they are not checked again.
        outcomes: By path, in the order of beginning.
        branches: Of `if` blocks by path.
        unrecorded: Traces that are not in the database yet.
        output_size: Characters of all outputs, which together must fit into one payload.
    """

    deadline: datetime
    status: RunStatus = "pending"
    conditions_hold: bool = False
    outcomes: dict[str, Outcome] = Field(default_factory=dict)
    branches: dict[str, Literal["then", "else"]] = Field(default_factory=dict)
    vars: dict[str, Any] = Field(default_factory=dict)
    unrecorded: dict[str, StepTrace] = Field(default_factory=dict)
    position: int = 0
    output_size: int = 0
