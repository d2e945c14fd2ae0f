"""What every effect of an automation has in common."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

from core.db.faults import translate
from core.dsl.fields import RENDERED, Node
from core.errors import InvalidInputError, IoTLinkerError
from core.temporal.steps import StepCall, StepDone

_Parameters = TypeVar("_Parameters", bound=Node)


def parameters(call: StepCall, form: type[_Parameters]) -> _Parameters:
    """Return the parameters of a step, as the language defines them.

    Raises:
        InvalidInputError: They are not of this form.
    """
    try:
        return form.model_validate(call.parameters, context=RENDERED)
    except ValidationError as error:
        raise InvalidInputError(f"the parameters are not valid: {error}") from error


async def perform(action: Callable[[], Awaitable[dict[str, Any]]]) -> StepDone:
    """Do a step's work and return its output with times and try.

    Raises:
        ApplicationError: It failed. The type is the error's code; only what may be mended by
            waiting (status 500 and above) is tried again.
    """
    started = datetime.now(UTC)
    try:
        output = await action()
    except Exception as error:
        known = error if isinstance(error, IoTLinkerError) else translate(error)
        if known is None:
            raise
        fail(known.code, known.detail, retry=known.status >= 500, cause=error)
    return StepDone(
        output=output,
        attempt=activity.info().attempt,
        started_at=started,
        completed_at=datetime.now(UTC),
    )


def fail(kind: str, message: str, *, retry: bool, cause: Exception | None = None) -> NoReturn:
    """Fail the step.

    Raises:
        ApplicationError: Always; its first detail is the number of the try.
    """
    raise ApplicationError(
        message, activity.info().attempt, type=kind, non_retryable=not retry
    ) from cause
