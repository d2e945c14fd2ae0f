"""Runs of automations: starting, reading, deciding, cancelling."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import structlog

from api.deps import Page, WorkFactory
from api.devices.service import found as found_device
from api.schemas import Pagination
from api.services import Services
from api.work import Work
from api.workflows.schemas import (
    DecisionForm,
    DecisionView,
    ExecuteForm,
    ExecutionList,
    ExecutionSummary,
    ExecutionView,
    StartedExecution,
    StepView,
)
from api.workflows.service import found
from core.db.repositories import automation, identity, workflows
from core.db.repositories.automation import NewRun
from core.db.repositories.workflows import ACTIVE, ExecutionFilter
from core.db.tables import WorkflowExecution
from core.errors import ConflictError, NotFoundError, PermissionDeniedError, UnavailableError
from core.temporal import names
from core.temporal.contracts import ApprovalDecision
from core.temporal.outbox import StartRun
from core.temporal.starts import RefusedError
from core.temporal.steps import NOT_ASKED, QUERY_STATE, STEP_NOT_WAITING, UPDATE_DECIDE, LiveState

logger = structlog.get_logger(__name__)

_CATCHING_UP = (0.2, 0.5, 1.0, 2.0)
"""Seconds between tries while a run comes back to where its trace says it is."""


async def execute(work: Work, workflow_id: UUID, form: ExecuteForm) -> StartedExecution:
    """Start a run by hand.

    Raises:
        NotFoundError: There is no such automation or device.
        ConflictError: The automation is disabled.
    """
    workflow = await found(work, workflow_id)
    if not workflow.enabled or workflow.current_version is None:
        raise ConflictError("The automation is disabled; enable it first.")
    trigger: dict[str, Any] = {
        "type": "manual",
        "time": datetime.now(UTC).isoformat(),
        "input": form.input_data,
    }
    if form.device_id is not None:
        await found_device(work, form.device_id)
        trigger["device_id"] = str(form.device_id)
    event_key = f"manual:{uuid4()}"
    temporal_id = names.run_id(work.tenant_id, workflow_id, event_key)
    run = NewRun(
        id=names.stable_uuid(temporal_id),
        workflow_id=workflow_id,
        version=workflow.current_version,
        event_key=event_key,
        temporal_id=temporal_id,
        trigger=trigger,
        device_id=form.device_id,
        dry_run=form.dry_run,
    )
    # Stored now and not by the relay, so that it can be read as soon as it is answered.
    await automation.prepare_run(work.session, work.tenant_id, run)
    await work.enqueue(
        StartRun(
            workflow_id=str(workflow_id),
            version=run.version,
            event_key=event_key,
            trigger=trigger,
            device_id=None if form.device_id is None else str(form.device_id),
            dry_run=form.dry_run,
        )
    )
    work.audit(
        "workflow.executed",
        "workflow",
        workflow_id,
        execution=str(run.id),
        version=run.version,
        dry_run=form.dry_run,
    )
    stored = await _execution(work, workflow_id, run.id)
    return StartedExecution(
        execution_id=run.id,
        status="pending",
        started_at=stored.started_at or datetime.now(UTC),
    )


async def page(work: Work, wanted: ExecutionFilter, place: Page) -> ExecutionList:
    """Return a page of runs.

    Raises:
        NotFoundError: The automation asked for does not exist.
    """
    if wanted.workflow_id is not None:
        await found(work, wanted.workflow_id)
    rows, total = await workflows.executions(
        work.session, wanted, offset=place.offset, limit=place.limit
    )
    return ExecutionList(
        executions=[ExecutionSummary.of(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def get(
    services: Services, factory: WorkFactory, workflow_id: UUID, execution_id: UUID
) -> ExecutionView:
    """Return a run with its trace and, while it is going on, how it stands.

    Raises:
        NotFoundError: There is none.
    """
    async with factory() as work:
        row = await _execution(work, workflow_id, execution_id)
        trace = await workflows.steps(work.session, execution_id)
    live: LiveState | None = None
    if row.status in ACTIVE:
        try:
            live = await services.temporal.query(row.temporal_id, QUERY_STATE, LiveState)
        except (UnavailableError, ConflictError) as error:
            logger.info("executions.no_live_state", error=error.detail)
    return ExecutionView.of(
        row,
        steps=[StepView.of(step) for step in trace],
        live=None if live is None else live.model_dump(mode="json"),
    )


async def decide(
    services: Services,
    factory: WorkFactory,
    workflow_id: UUID,
    execution_id: UUID,
    form: DecisionForm,
) -> DecisionView:
    """Give a person's decision to a run.

    Raises:
        NotFoundError: There is no such run.
        PermissionDeniedError: The step asks other people.
        ConflictError: The step does not wait for a decision.
        UnavailableError: Temporal or its workers are down.
    """
    async with factory() as work:
        row = await _execution(work, workflow_id, execution_id)
        user = await identity.get_user(work.session, work.caller.user_id)
    if user is None:
        raise NotFoundError("The user no longer exists.")
    decision = ApprovalDecision(
        step=form.step,
        approved=form.approved,
        user_id=user.id,
        user_email=user.email,
        roles=factory.caller.roles,
        comment=form.comment,
    )
    try:
        await _tell(services, factory, row, decision)
    except RefusedError as error:
        if error.kind == NOT_ASKED:
            raise PermissionDeniedError(error.detail) from error
        raise
    async with factory() as work:
        work.audit(
            "workflow.approved" if form.approved else "workflow.rejected",
            "workflow_execution",
            execution_id,
            step=form.step,
            comment=form.comment,
        )
    return DecisionView(execution_id=execution_id, step=form.step, approved=form.approved)


async def _tell(
    services: Services, factory: WorkFactory, row: WorkflowExecution, decision: ApprovalDecision
) -> None:
    """Tell a run of a decision.

    A worker may have been killed after it wrote that the step waits and before Temporal knew; the
    run takes no decision until it has come there again, so what the trace promises is tried again.
    """
    for pause in _CATCHING_UP:
        try:
            await services.temporal.update(row.temporal_id, UPDATE_DECIDE, decision)
        except RefusedError as error:
            if error.kind != STEP_NOT_WAITING:
                raise
            async with factory() as work:
                trace = await workflows.steps(work.session, row.id)
            if not any(
                step.status == "waiting" and decision.step in (step.path, step.path.split(".")[-1])
                for step in trace
            ):
                raise
            await asyncio.sleep(pause)
        else:
            return
    await services.temporal.update(row.temporal_id, UPDATE_DECIDE, decision)


async def cancel(
    services: Services, factory: WorkFactory, workflow_id: UUID, execution_id: UUID
) -> ExecutionSummary:
    """Ask a run to stop.

    Raises:
        NotFoundError: There is none.
        ConflictError: It has ended, or has not started yet.
        UnavailableError: Temporal is down.
    """
    async with factory() as work:
        row = await _execution(work, workflow_id, execution_id)
    if row.status not in ACTIVE:
        raise ConflictError(f"The run is {row.status}.")
    if not await services.temporal.cancel(row.temporal_id):
        raise ConflictError("The run has ended, or has not started yet.")
    async with factory() as work:
        work.audit("workflow.cancelled", "workflow_execution", execution_id)
    return ExecutionSummary.of(row)


async def _execution(work: Work, workflow_id: UUID, execution_id: UUID) -> WorkflowExecution:
    row = await workflows.execution(work.session, workflow_id, execution_id)
    if row is None:
        raise NotFoundError("There is no such run of this automation.")
    return row
