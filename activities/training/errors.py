"""Our errors as Temporal's: with a type, and a word on whether trying again can help."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

from temporalio.exceptions import ApplicationError

from core.errors import IoTLinkerError, UnavailableError
from mlops.errors import TrainingStoppedError

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

_WORTH_RETRYING: Final = (UnavailableError, TrainingStoppedError)


def explained(
    method: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Awaitable[T]]:
    """Turn an `IoTLinkerError` into an `ApplicationError` of its code.

    Wrong or missing data stays wrong however often it is read, so only what is temporary is
    tried again. Errors of other kinds pass, and Temporal retries them.
    """

    @wraps(method)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(self, *args, **kwargs)
        except IoTLinkerError as error:
            raise ApplicationError(
                error.detail,
                type=error.code,
                non_retryable=not isinstance(error, _WORTH_RETRYING),
            ) from error

    return wrapper
