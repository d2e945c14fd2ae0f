"""How a step and a run fail."""

from typing import Any

from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    TimeoutError,  # noqa: A004  (Temporal's own name)
)

from core.dsl.expressions import ExpressionError


class StepFailedError(Exception):
    """A step failed; `path` is set where it is known.

    Attributes:
        kind: Stable type, such as `DeviceCommandTimeout` or `invalid_expression`.
    """

    def __init__(self, kind: str, message: str, attempt: int = 1) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.attempt = attempt
        self.path: str | None = None

    def document(self) -> dict[str, Any]:
        """Return what is recorded and what expressions see as `error`."""
        place = {} if self.path is None else {"step": self.path}
        return {"type": self.kind, "message": self.message, **place}


class RunTimeoutError(Exception):
    """The run took longer than its settings allow."""


class RunRejectedError(Exception):
    """A person said no, which ends the run.

    Attributes:
        results: What the run's results say of it.
    """

    def __init__(self, results: dict[str, Any]) -> None:
        super().__init__("rejected")
        self.results = results


def from_expression(error: ExpressionError) -> StepFailedError:
    """Return the failure of a step whose expression failed."""
    value = "" if error.value is None else f" (value {error.value!r:.100})"
    return StepFailedError(error.code, f"{error.detail}{value}")


def from_activity(error: FailureError) -> StepFailedError:
    """Return the failure of a step whose activity gave up.

    A local activity's error comes as it was raised, another's within an `ActivityError`.
    """
    match error.cause if isinstance(error, ActivityError) else error:
        case ApplicationError() as cause:
            attempt = next((d for d in cause.details if isinstance(d, int)), 1)
            return StepFailedError(cause.type or "Failed", cause.message, attempt)
        case TimeoutError():
            return StepFailedError("Timeout", "the step took longer than it may")
        case FailureError() as cause:
            return StepFailedError(type(cause).__name__, cause.message)
        case _:
            return StepFailedError("Failed", error.message)
