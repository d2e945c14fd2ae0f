"""Writes the trace of a run: gathered here, stored in few batches."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError, is_cancelled_exception

from core.temporal.activity_names import AutomationActivity
from core.temporal.contracts import RunInput
from core.temporal.steps import RunRecord, RunStatus, StepTrace
from workflows.automation.effects import LOCAL_TIMEOUT, PATIENT
from workflows.automation.state import RunState

_BATCH = 50
# Waits longer than this between tries become timers of the server instead of keeping the worker's
# workflow task open.
_LOCAL_RETRY = timedelta(seconds=5)


class Journal:
    """The trace of one run."""

    def __init__(self, run: RunInput, state: RunState) -> None:
        self._run = run
        self._state = state
        self._stored: RunStatus | None = None

    def note(self, trace: StepTrace) -> None:
        """Add a step, or how it stands now."""
        self._state.unrecorded.pop(trace.path, None)
        self._state.unrecorded[trace.path] = trace

    async def store_if_large(self) -> None:
        """Store what was gathered when it has become much."""
        if len(self._state.unrecorded) >= _BATCH:
            await self._store(None, None, None)

    async def store(
        self,
        status: RunStatus,
        *,
        results: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """Store the run's status and what was gathered."""
        if status == self._stored and not self._state.unrecorded:
            return
        self._state.status = status
        await self._store(status, results, error)
        self._stored = status

    async def _store(
        self,
        status: RunStatus | None,
        results: dict[str, Any] | None,
        error: dict[str, Any] | None,
    ) -> None:
        written = dict(self._state.unrecorded)
        activity = (
            AutomationActivity.RECORD_STEPS if status is None else AutomationActivity.RECORD_STATUS
        )
        try:
            await workflow.execute_local_activity(
                activity,
                RunRecord(
                    tenant_id=self._run.tenant_id,
                    workflow_id=self._run.workflow_id,
                    execution_id=self._run.execution_id,
                    steps=list(written.values()),
                    status=status,
                    results=results,
                    error=error,
                    at=workflow.now(),
                ),
                start_to_close_timeout=LOCAL_TIMEOUT,
                retry_policy=PATIENT,
                local_retry_threshold=_LOCAL_RETRY,
            )
        except FailureError as failure:
            if is_cancelled_exception(failure):
                raise asyncio.CancelledError from failure
            raise
        # Only now: when the write is cancelled, the next one repeats it.
        for path, trace in written.items():
            if self._state.unrecorded.get(path) is trace:
                del self._state.unrecorded[path]
