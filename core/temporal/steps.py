"""What an automation run and its activities tell each other, and what a run tells who asks.

Pure data, imported by the workflow.
"""

from typing import Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from core.temporal.contracts import Contract

UPDATE_DECIDE: Final = "decide"
"""Update with an `ApprovalDecision`, answered by an `ApprovalAnswer`."""
QUERY_STATE: Final = "state"
"""Query answered by a `LiveState`."""

RunStatus = Literal["pending", "running", "waiting", "completed", "failed", "cancelled"]
StepStatus = Literal["running", "waiting", "completed", "failed", "skipped"]

STEP_NOT_WAITING: Final = "StepNotWaiting"
NOT_ASKED: Final = "NotAsked"
"""Types of the errors with which a decision is refused."""
DEVICE_COMMAND_TIMEOUT: Final = "DeviceCommandTimeout"


class StepTrace(Contract):
    """A row of the trace. `path` is the step's place, such as `gate.then.stop`."""

    path: str
    position: int
    step_type: str
    status: StepStatus
    input: dict[str, Any] | None = None
    output: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    attempt: int = 1
    started_at: AwareDatetime
    completed_at: AwareDatetime | None = None


class RunRecord(Contract):
    """Stores steps of a run and, unless None, its status."""

    tenant_id: UUID
    workflow_id: UUID
    execution_id: UUID
    steps: list[StepTrace] = Field(default_factory=list)
    status: RunStatus | None = None
    results: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    at: AwareDatetime


class StepCall(Contract):
    """Asks an activity to do one step.

    Attributes:
        key: Idempotency key of the effect.
        device_id: The device in question: the step's own, else the trigger's.
        parameters: The step's `with`, rendered and checked.
    """

    tenant_id: UUID
    execution_id: UUID
    key: str
    device_id: UUID | None = None
    parameters: dict[str, Any]


class StepDone(Contract):
    """What a step gave, with the times of the try that succeeded."""

    output: dict[str, Any]
    attempt: int = 1
    started_at: AwareDatetime
    completed_at: AwareDatetime


class PendingApproval(Contract):
    """A decision that a run waits for."""

    step: str
    path: str
    to: list[str]
    message: str
    since: AwareDatetime
    until: AwareDatetime


class ApprovalAnswer(Contract):
    """The decision is taken and will be acted on, whatever is killed."""

    step: str
    approved: bool


class LiveStep(Contract):
    """One step as it stands."""

    path: str
    status: StepStatus


class LiveState(Contract):
    """A run as it stands: `steps` in the order in which they began."""

    status: RunStatus
    steps: list[LiveStep]
    approvals: list[PendingApproval]
    vars: dict[str, Any]


class RunResult(Contract):
    """How a run ended."""

    status: RunStatus
    results: dict[str, Any]
