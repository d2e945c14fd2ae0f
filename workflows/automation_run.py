"""Runs an automation: interprets the definition that it was started with."""

import asyncio
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import ValidationError

    from core.dsl.durations import parse_duration
    from core.dsl.schema import Definition
    from core.temporal.contracts import ApprovalDecision, RunInput
    from core.temporal.names import WorkflowType
    from core.temporal.steps import (
        QUERY_STATE,
        UPDATE_DECIDE,
        ApprovalAnswer,
        LiveState,
        RunResult,
        RunStatus,
    )
    from workflows.automation.approvals import Approvals
    from workflows.automation.failures import (
        RunRejectedError,
        RunTimeoutError,
        StepFailedError,
    )
    from workflows.automation.interpreter import ConditionsFailedError, Interpreter
    from workflows.automation.journal import Journal
    from workflows.automation.state import RunState


@workflow.defn(name=WorkflowType.AUTOMATION_RUN)
class AutomationRun:
    """One run, pinned to one version of a definition.

    The history stays short: a step that only writes to our own database is a local activity, and
    the trace is written before a wait and at the end, not step by step.
    """

    @workflow.init
    def __init__(self, run: RunInput, state: RunState | None) -> None:
        self._approvals = Approvals()
        self._interpreter: Interpreter | None = None

    @workflow.run
    async def run(self, run: RunInput, state: RunState | None) -> RunResult:
        """Return the results of a run that ended well.

        Raises:
            ApplicationError: It failed; the type is that of the step's failure. Not retryable:
                every retry is the business of a step.
            asyncio.CancelledError: It was cancelled, which is recorded.
        """
        try:
            definition = Definition.model_validate(run.definition)
        except ValidationError as error:
            raise ApplicationError(
                f"the definition is not valid: {error.error_count()} errors",
                type="InvalidDefinition",
                non_retryable=True,
            ) from error
        state = state or RunState(
            deadline=workflow.now() + parse_duration(definition.settings.timeout)
        )
        journal = Journal(run, state)
        self._interpreter = Interpreter(run, state, definition, journal, self._approvals)
        try:
            results = await self._interpreter.run()
        except ConditionsFailedError as reason:
            results = {"skipped": str(reason)}
        except RunRejectedError as rejection:
            results = {"rejected": rejection.results}
        except RunTimeoutError as error:
            await self._fail(
                journal,
                {"type": "RunTimeout", "message": f"took over {definition.settings.timeout}"},
                error,
            )
        except StepFailedError as error:
            await self._fail(journal, error.document(), error)
        except asyncio.CancelledError:
            await self._finish(journal, "cancelled")
            raise
        return await self._finish(journal, "completed", results=results)

    @workflow.query(name=QUERY_STATE)
    def state(self) -> LiveState:
        """Tell how the run stands."""
        if self._interpreter is None:
            return LiveState(status="pending", steps=[], approvals=[], vars={})
        return self._interpreter.live()

    @workflow.update(name=UPDATE_DECIDE)
    async def decide(self, decision: ApprovalDecision) -> ApprovalAnswer:
        """Take a person's decision."""
        return self._approvals.decide(decision)

    @decide.validator
    def _may_decide(self, decision: ApprovalDecision) -> None:
        self._approvals.check(decision)

    async def _fail(self, journal: Journal, error: dict[str, Any], cause: Exception) -> NoReturn:
        await self._finish(journal, "failed", error=error)
        raise ApplicationError(error["message"], type=error["type"], non_retryable=True) from cause

    async def _finish(
        self,
        journal: Journal,
        status: RunStatus,
        *,
        results: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> RunResult:
        try:
            await journal.store(status, results=results, error=error)
        except asyncio.CancelledError:
            # Too late to be cancelled: all is done, and only to be written down.
            await journal.store(status, results=results, error=error)
        return RunResult(status=status, results=results or {})
