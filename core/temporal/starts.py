"""Asking Temporal about workflows, and telling them things, from processes that hold no worker.

Workflows are started through the outbox, in the transaction of their cause; this is for what needs
an answer.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel
from temporalio.client import (
    Client,
    RPCTimeoutOrCancelledError,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError, RPCStatusCode

from core.errors import ConflictError, UnavailableError
from core.settings import Settings
from core.temporal.client import connect

_Answer = TypeVar("_Answer", bound=BaseModel)
_TIMEOUT = timedelta(seconds=5)
_UPDATE_TIMEOUT = timedelta(seconds=15)


class RefusedError(ConflictError):
    """A workflow refused what it was told.

    Attributes:
        kind: The workflow's own name for the reason.
    """

    def __init__(self, detail: str, *, kind: str | None) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class WorkflowState:
    """Where a workflow stands.

    Attributes:
        status: running, completed, failed, canceled, terminated, continued_as_new, or timed_out.
    """

    status: str
    started_at: datetime
    closed_at: datetime | None


class Temporal:
    """Temporal as the API sees it. Connects at the first call and again whenever it must."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    async def open(cls, settings: Settings) -> "Temporal":
        """Prepare the connection; Temporal may be down meanwhile."""
        return cls(await connect(settings, lazy=True))

    async def check_health(self) -> None:
        """Check that the service answers.

        Raises:
            UnavailableError: It does not.
        """
        try:
            async with asyncio.timeout(_TIMEOUT.total_seconds()):
                # The one call of the client that also makes the lazy connection.
                await self._client.count_workflows("WorkflowId = 'health'", rpc_timeout=_TIMEOUT)
        except (RPCError, RPCTimeoutOrCancelledError, RuntimeError, TimeoutError) as error:
            raise _down(error) from error

    async def state(self, workflow_id: str) -> WorkflowState | None:
        """Return where the newest run of a workflow stands; None when there is none (yet)."""
        try:
            found = await self._handle(workflow_id).describe(rpc_timeout=_TIMEOUT)
        except (RPCError, RuntimeError) as error:
            if _is_missing(error):
                return None
            raise _down(error) from error
        status = "running" if found.status is None else found.status.name.lower()
        return WorkflowState(status, found.start_time, found.close_time)

    async def query(self, workflow_id: str, query: str, answer: type[_Answer]) -> _Answer | None:
        """Return a workflow's answer to a query; None when there is no such workflow (yet).

        Raises:
            UnavailableError: Temporal, or every worker of the workflow, is down.
        """
        try:
            return await self._handle(workflow_id).query(
                query, result_type=answer, rpc_timeout=_TIMEOUT
            )
        except (WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
            raise ConflictError(f"The workflow does not answer: {error}") from error
        except (RPCError, RPCTimeoutOrCancelledError, RuntimeError) as error:
            if _is_missing(error):
                return None
            raise _down(error) from error

    async def result(self, workflow_id: str, answer: type[_Answer]) -> _Answer:
        """Return the result of a workflow that has completed.

        Raises:
            ConflictError: It did not complete; the message says why.
            UnavailableError: Temporal is down.
        """
        handle = self._client.get_workflow_handle(workflow_id, result_type=answer)
        try:
            async with asyncio.timeout(_TIMEOUT.total_seconds()):
                return await handle.result(rpc_timeout=_TIMEOUT)
        except (RPCError, RPCTimeoutOrCancelledError, RuntimeError, TimeoutError) as error:
            raise _down(error) from error
        except WorkflowFailureError as error:
            raise ConflictError(_reason(error.cause)) from error

    async def update(self, workflow_id: str, update: str, argument: BaseModel) -> Any:
        """Tell a running workflow something and return its answer.

        Raises:
            RefusedError: It refuses; the message says why.
            ConflictError: It has ended, or has not started yet.
            UnavailableError: Temporal, or every worker of the workflow, is down.
        """
        try:
            return await self._handle(workflow_id).execute_update(
                update, argument, rpc_timeout=_UPDATE_TIMEOUT
            )
        except WorkflowUpdateFailedError as error:
            cause = _cause(error)
            kind = cause.type if isinstance(cause, ApplicationError) else None
            raise RefusedError(_reason(error), kind=kind) from error
        except (RPCError, RPCTimeoutOrCancelledError, RuntimeError) as error:
            if _is_missing(error):
                raise ConflictError("It has ended, or has not started yet.") from error
            raise _down(error) from error

    async def cancel(self, workflow_id: str) -> bool:
        """Ask a workflow to stop; False when it has ended or never was."""
        try:
            await self._handle(workflow_id).cancel(rpc_timeout=_TIMEOUT)
        except (RPCError, RuntimeError) as error:
            if _is_missing(error):
                return False
            raise _down(error) from error
        return True

    def _handle(self, workflow_id: str) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(workflow_id)


def _is_missing(error: Exception) -> bool:
    return isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND


def _down(error: Exception) -> UnavailableError:
    # The client raises a plain RuntimeError when its lazy connection cannot be made.
    return UnavailableError(f"Temporal cannot be reached: {type(error).__name__}.")


def _cause(error: BaseException) -> BaseException:
    cause = error
    while isinstance(cause.__cause__, FailureError):
        cause = cause.__cause__
    return cause


def _reason(error: BaseException) -> str:
    cause = _cause(error)
    return cause.message if isinstance(cause, ApplicationError) else str(cause)
