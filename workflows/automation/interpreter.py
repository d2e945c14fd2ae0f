"""Walks through a definition. A step that has run is passed by, so a walk can begin anew."""

import asyncio
import json
from typing import Any

from temporalio import workflow

from core.dsl.expressions import ExpressionError, compile_expression
from core.dsl.schema import Definition, IfStep, Step
from core.temporal.contracts import RunInput
from core.temporal.steps import LiveState, LiveStep, StepStatus, StepTrace
from workflows.automation.actions import Actions, Attempt
from workflows.automation.approvals import Approvals
from workflows.automation.failures import (
    RunRejectedError,
    RunTimeoutError,
    StepFailedError,
    from_expression,
)
from workflows.automation.journal import Journal
from workflows.automation.scope import Scope
from workflows.automation.state import Outcome, RunState

MAX_OUTPUT = 1_000_000
"""Characters of all outputs of a run; with the definition they fit into one payload of 2 MB."""


class ConditionsFailedError(Exception):
    """A condition of the definition does not hold, so there is nothing to do."""


class Interpreter:
    """One run of one definition."""

    def __init__(
        self,
        run: RunInput,
        state: RunState,
        definition: Definition,
        journal: Journal,
        approvals: Approvals,
    ) -> None:
        self._state = state
        self._definition = definition
        self._journal = journal
        self._approvals = approvals
        self._scope = Scope(run, state, definition.actions)
        self._actions = Actions(run, state, self._scope, journal, approvals)
        self._live: dict[str, StepStatus] = {}

    async def run(self) -> dict[str, Any]:
        """Run everything and return the results.

        Raises:
            ConditionsFailedError: There is nothing to do.
            StepFailedError, RunTimeoutError, RunRejectedError: The run ends early.
            ContinueAsNew: The history has become long; `state` has all that is needed.
        """
        if not self._state.conditions_hold:
            self._check_conditions()
            self._state.conditions_hold = True
        await self._block(self._definition.actions, "")
        return {
            "steps": {item.id: item.status for item in self._state.outcomes.values()},
            "vars": self._state.vars,
        }

    def live(self) -> LiveState:
        """Return how the run stands."""
        done: dict[str, StepStatus] = {
            path: outcome.status for path, outcome in self._state.outcomes.items()
        }
        return LiveState(
            status=self._state.status,
            steps=[LiveStep(path=path, status=s) for path, s in (done | self._live).items()],
            approvals=self._approvals.pending(),
            vars=self._state.vars,
        )

    def _check_conditions(self) -> None:
        context = self._scope.at(workflow.now())
        for number, condition in enumerate(self._definition.conditions, 1):
            try:
                holds = compile_expression(condition.expr).condition(context)
            except ExpressionError as error:
                failure = from_expression(error)
                failure.path = f"conditions.{number}"
                raise failure from error
            if not holds:
                raise ConditionsFailedError(f"condition {number} does not hold: {condition.expr}")

    async def _block(self, steps: list[Step], prefix: str) -> None:
        for step in steps:
            path = prefix + step.id
            if path in self._state.outcomes:
                continue
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(args=[self._actions.run_input, self._state])
            self._actions.remaining()
            await self._step(step, path)
            await self._journal.store_if_large()

    async def _step(self, step: Step, path: str) -> None:
        if path not in self._state.branches:
            self._state.position += 1
        if step.disabled:
            self._end(step, path, "skipped", {})
            self._journal.note(self._trace(step, path, "skipped"))
            return
        self._live[path] = "running"
        try:
            if isinstance(step, IfStep):
                await self._if(step, path)
            else:
                await self._act(step, path)
        except StepFailedError as failure:
            failure.path = failure.path or path
            if not step.continue_on_error:
                raise
            self._end(step, path, "failed", {"error": failure.document()})
        finally:
            self._live.pop(path, None)

    async def _if(self, step: IfStep, path: str) -> None:
        branch = self._state.branches.get(path)
        if branch is None:
            try:
                holds = compile_expression(step.condition).condition(self._scope.at(workflow.now()))
            except ExpressionError as error:
                failure = from_expression(error)
                self._journal.note(self._trace(step, path, "failed", error=failure.document()))
                raise failure from error
            branch = "then" if holds else "else"
            self._state.branches[path] = branch
            self._journal.note(self._trace(step, path, "completed", output={"branch": branch}))
        await self._block(step.then if branch == "then" else step.otherwise, f"{path}.{branch}.")
        self._end(step, path, "completed", {"branch": branch})

    async def _act(self, step: Step, path: str) -> None:
        assert not isinstance(step, IfStep)
        attempt = Attempt(step, path, self._state.position, workflow.now())
        try:
            output = await self._actions.perform(attempt)
            self._count(output)
        except StepFailedError as failure:
            attempt.tries = max(attempt.tries, failure.attempt)
            self._journal.note(
                attempt.trace("failed", error=failure.document(), ended=workflow.now())
            )
            raise
        except RunTimeoutError:
            self._cut(attempt, "RunTimeout", "the run took longer than it may")
            raise
        except asyncio.CancelledError:
            self._cut(attempt, "Cancelled", "the run was cancelled")
            raise
        except RunRejectedError as rejection:
            self._journal.note(
                attempt.trace("completed", output=rejection.results, ended=workflow.now())
            )
            raise
        self._journal.note(attempt.trace("completed", output=output, ended=workflow.now()))
        self._end(step, path, "completed", output)

    def _count(self, output: dict[str, Any]) -> None:
        self._state.output_size += len(json.dumps(output))
        if self._state.output_size > MAX_OUTPUT:
            raise StepFailedError("output_too_large", "the outputs of the run are too large")

    def _cut(self, attempt: Attempt, kind: str, message: str) -> None:
        error = {"type": kind, "message": message, "step": attempt.path}
        self._journal.note(attempt.trace("failed", error=error, ended=workflow.now()))

    def _end(self, step: Step, path: str, status: StepStatus, output: dict[str, Any]) -> None:
        self._state.outcomes[path] = Outcome(id=step.id, status=status, output=output)
        self._scope.add(step.id, output)

    def _trace(
        self,
        step: Step,
        path: str,
        status: StepStatus,
        *,
        output: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> StepTrace:
        now = workflow.now()
        return StepTrace(
            path=path,
            position=self._state.position,
            step_type=step.type,
            status=status,
            input={"condition": step.condition} if isinstance(step, IfStep) else None,
            output=output,
            error=error,
            started_at=now,
            completed_at=now,
        )
