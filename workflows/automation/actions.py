"""Carries out single steps. What a step does follows from its type; see `core.dsl.steps`."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import (
    ChildWorkflowError,
    FailureError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from core.dsl.durations import parse_duration
from core.dsl.expressions import ExpressionError, render_template
from core.dsl.fields import RENDERED
from core.dsl.schema import (
    ActionStep,
    ApprovalStep,
    DelayStep,
    DeviceCommandStep,
    EffectStep,
    PredictStep,
    SetStep,
    WebhookStep,
)
from core.dsl.steps import (
    ApprovalParameters,
    DelayParameters,
    SetParameters,
    WebhookParameters,
)
from core.temporal import names
from core.temporal.contracts import RunInput, WebhookDeliveryInput
from core.temporal.steps import (
    DEVICE_COMMAND_TIMEOUT,
    PendingApproval,
    StepCall,
    StepDone,
    StepStatus,
    StepTrace,
)
from core.temporal.webhook_contracts import AttemptOutcome, WebhookDeliveryResult
from workflows.automation.approvals import Approvals
from workflows.automation.effects import EFFECTS, Effect, retry_policy
from workflows.automation.failures import (
    RunRejectedError,
    RunTimeoutError,
    StepFailedError,
    from_activity,
    from_expression,
)
from workflows.automation.journal import Journal
from workflows.automation.scope import Scope
from workflows.automation.state import RunState


class Attempt:
    """One step in progress: its place and what its trace says so far."""

    def __init__(self, step: ActionStep, path: str, position: int, started: datetime) -> None:
        self.step = step
        self.path = path
        self.position = position
        self.started = started
        self.completed: datetime | None = None
        self.input: dict[str, Any] | None = None
        self.tries = 1

    def trace(
        self,
        status: StepStatus,
        *,
        output: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        ended: datetime | None = None,
    ) -> StepTrace:
        """Return the trace as it stands."""
        return StepTrace(
            path=self.path,
            position=self.position,
            step_type=self.step.type,
            status=status,
            input=self.input,
            output=output,
            error=error,
            attempt=self.tries,
            started_at=self.started,
            completed_at=self.completed or ended,
        )


class Actions:
    """The steps of one run."""

    def __init__(
        self,
        run: RunInput,
        state: RunState,
        scope: Scope,
        journal: Journal,
        approvals: Approvals,
    ) -> None:
        self._run = run
        self._state = state
        self._scope = scope
        self._journal = journal
        self._approvals = approvals

    @property
    def run_input(self) -> RunInput:
        """What the run was started with."""
        return self._run

    def remaining(self) -> timedelta:
        """Return how long the run may still take.

        Raises:
            RunTimeoutError: No longer.
        """
        left = self._state.deadline - workflow.now()
        if left <= timedelta(0):
            raise RunTimeoutError
        return left

    async def perform(self, attempt: Attempt) -> dict[str, Any]:
        """Carry out a step and return its output.

        Raises:
            StepFailedError: It failed for good.
            RunRejectedError: A person ended the run.
            RunTimeoutError: The run's time is up.
        """
        parameters = self._render(attempt)
        match attempt.step, parameters:
            case SetStep(), SetParameters():
                self._state.vars.update(parameters.vars)
                return dict(parameters.vars)
            case DelayStep(), DelayParameters():
                return await self._delay(attempt, parse_duration(parameters.duration))
            case ApprovalStep(), ApprovalParameters():
                return await self._approve(attempt, parameters)
            case EffectStep() as step, _:
                if self._run.dry_run and not isinstance(step, PredictStep):
                    return {"dry_run": True}
                if isinstance(step, DeviceCommandStep):
                    return await self._command(attempt, step)
                output = await self._effect(attempt, step, EFFECTS[type(step)])
                if isinstance(step, WebhookStep):
                    wait = isinstance(parameters, WebhookParameters) and parameters.wait
                    return await self._deliver(output, wait=wait)
                return output
            case step, _:
                raise StepFailedError("unknown_step", f"there is no step of type `{step.type}`")

    def _render(self, attempt: Attempt) -> Any:
        """Return the parameters with every expression replaced, checked again by the schema."""
        given = attempt.step.parameters
        try:
            rendered = render_template(given.given(), self._scope.at(workflow.now()))
        except ExpressionError as error:
            raise from_expression(error) from error
        attempt.input = rendered
        try:
            return type(given).model_validate(rendered, context=RENDERED)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise StepFailedError("invalid_parameters", f"`{place}`: {first['msg']}") from error

    async def _delay(self, attempt: Attempt, duration: timedelta) -> dict[str, Any]:
        if self._run.dry_run:
            return {"dry_run": True}
        left = self.remaining()
        self._journal.note(attempt.trace("waiting"))
        await self._journal.store("waiting")
        await workflow.sleep(min(duration, left), summary=attempt.path)
        if duration > left:
            raise RunTimeoutError
        await self._resumed(attempt)
        return {}

    async def _approve(self, attempt: Attempt, wanted: ApprovalParameters) -> dict[str, Any]:
        if self._run.dry_run:
            return {"dry_run": True, "approved": True}
        left = self.remaining()
        timeout = parse_duration(wanted.timeout) if wanted.timeout else left
        now = workflow.now()
        self._approvals.ask(
            PendingApproval(
                step=attempt.step.id,
                path=attempt.path,
                to=wanted.to,
                message=wanted.message,
                since=now,
                until=now + min(timeout, left),
            )
        )
        self._journal.note(attempt.trace("waiting"))
        await self._journal.store("waiting")
        try:
            await workflow.wait_condition(
                lambda: self._approvals.decision(attempt.path) is not None,
                timeout=min(timeout, left),
                timeout_summary=f"{attempt.path}: approval",
            )
        except TimeoutError:
            if timeout >= left:
                raise RunTimeoutError from None
        finally:
            self._approvals.close(attempt.path)
        await self._resumed(attempt)
        return self._decided(attempt, wanted)

    async def _resumed(self, attempt: Attempt) -> None:
        self._journal.note(attempt.trace("running"))
        await self._journal.store("running")

    def _decided(self, attempt: Attempt, wanted: ApprovalParameters) -> dict[str, Any]:
        decision = self._approvals.decision(attempt.path)
        if decision is not None:
            output = {
                "approved": decision.approved,
                "by": decision.user_email,
                "comment": decision.comment,
            }
        elif wanted.on_timeout == "fail":
            raise StepFailedError("ApprovalTimeout", "nobody decided in time")
        else:
            output = {"approved": wanted.on_timeout == "approve", "timed_out": True}
        if not output["approved"] and wanted.on_reject == "stop":
            raise RunRejectedError(output)
        return output

    async def _effect(
        self, attempt: Attempt, step: EffectStep, effect: Effect, iteration: int = 0
    ) -> dict[str, Any]:
        call = self._call(attempt, iteration)
        left = self.remaining()
        own = parse_duration(step.timeout) if step.timeout else left
        allowed = min(own, left)
        try:
            done = await self._execute(attempt, effect, call, allowed, retry_policy(step, effect))
        except FailureError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            if own > left and self._state.deadline <= workflow.now():
                raise RunTimeoutError from error
            raise from_activity(error) from error
        attempt.tries = iteration + done.attempt
        attempt.started, attempt.completed = done.started_at, done.completed_at
        return done.output

    async def _execute(
        self,
        attempt: Attempt,
        effect: Effect,
        call: StepCall,
        allowed: timedelta,
        retry: RetryPolicy,
    ) -> StepDone:
        if effect.local:
            return await workflow.execute_local_activity(
                effect.activity,
                call,
                result_type=StepDone,
                start_to_close_timeout=effect.attempt_timeout,
                schedule_to_close_timeout=allowed,
                retry_policy=retry,
                summary=attempt.path,
            )
        # It may take a while, so people shall see what runs.
        self._journal.note(attempt.trace("running"))
        await self._journal.store("running")
        return await workflow.execute_activity(
            effect.activity,
            call,
            result_type=StepDone,
            task_queue=effect.queue,
            start_to_close_timeout=min(effect.attempt_timeout, allowed),
            schedule_to_close_timeout=allowed,
            heartbeat_timeout=effect.heartbeat,
            retry_policy=retry,
            summary=attempt.path,
        )

    async def _command(self, attempt: Attempt, step: DeviceCommandStep) -> dict[str, Any]:
        """Command a device; a retry that the definition asks for is another command."""
        effect = EFFECTS[DeviceCommandStep]
        tries = step.retry.attempts if step.retry else 1
        single = step.model_copy(update={"retry": None})
        for iteration in range(tries):
            try:
                return await self._effect(attempt, single, effect, iteration)
            except StepFailedError as failure:
                failure.attempt = iteration + 1
                if failure.kind != DEVICE_COMMAND_TIMEOUT or iteration + 1 == tries:
                    raise
            pause = parse_duration(step.retry.backoff) * 2**iteration if step.retry else timedelta()
            await workflow.sleep(min(pause, self.remaining()), summary=f"{attempt.path}: retry")
        raise AssertionError("unreachable: the last try returns or raises")

    async def _deliver(self, output: dict[str, Any], *, wait: bool) -> dict[str, Any]:
        delivery_id = UUID(output["delivery_id"])
        tenant_id = self._run.tenant_id
        try:
            child = await workflow.start_child_workflow(
                names.WorkflowType.WEBHOOK_DELIVERY,
                WebhookDeliveryInput(tenant_id=tenant_id, delivery_id=delivery_id),
                id=names.webhook_delivery_id(tenant_id, delivery_id),
                task_queue=names.TaskQueue.AUTOMATION,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
                result_type=WebhookDeliveryResult,
            )
        except WorkflowAlreadyStartedError:
            return output
        if not wait:
            return output
        await self._journal.store("running")
        try:
            result: WebhookDeliveryResult = await child
        except ChildWorkflowError as error:
            raise StepFailedError("WebhookNotDelivered", str(error.cause or error)) from error
        if result.outcome is not AttemptOutcome.DELIVERED:
            raise StepFailedError("WebhookNotDelivered", f"the delivery was {result.outcome}")
        return output | {"attempts": result.attempts}

    def _call(self, attempt: Attempt, iteration: int) -> StepCall:
        parameters = attempt.input or {}
        device = self._run.device or {}
        found = (
            parameters.get("device_id") or device.get("id") or self._run.trigger.get("device_id")
        )
        return StepCall(
            tenant_id=self._run.tenant_id,
            execution_id=self._run.execution_id,
            key=names.idempotency_key(workflow.info().workflow_id, attempt.path, iteration),
            device_id=UUID(found) if found else None,
            parameters=parameters,
        )
