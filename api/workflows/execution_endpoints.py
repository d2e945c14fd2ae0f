"""Runs: `/api/v1/workflows/{workflow_id}/executions` and `/api/v1/executions`."""

from uuid import UUID

from fastapi import APIRouter

from api.deps import PageDep, ServicesDep, WorkDep, WorkFactoryDep
from api.openapi import GUARDED, problems
from api.security.permissions import requires
from api.workflows import executions
from api.workflows.schemas import (
    DecisionForm,
    DecisionView,
    ExecuteForm,
    ExecutionList,
    ExecutionStatus,
    ExecutionSummary,
    ExecutionView,
    RejectionForm,
    StartedExecution,
)
from core.db.repositories.workflows import ExecutionFilter

router = APIRouter(prefix="/api/v1", tags=["workflows"], responses=GUARDED)

_RUN = "/workflows/{workflow_id}/executions/{execution_id}"


@router.post(
    "/workflows/{workflow_id}/execute",
    status_code=202,
    dependencies=[requires("workflows:execute")],
    responses=problems(404, 409),
)
async def execute_workflow(work: WorkDep, workflow_id: UUID, form: ExecuteForm) -> StartedExecution:
    """Start a run of the current version by hand."""
    return await executions.execute(work, workflow_id, form)


@router.get("/executions", dependencies=[requires("workflows:read")])
async def list_all_executions(
    work: WorkDep,
    page: PageDep,
    status: ExecutionStatus | None = None,
    device_id: UUID | None = None,
) -> ExecutionList:
    """List runs of all automations, newest first."""
    wanted = ExecutionFilter(status=status, device_id=device_id)
    return await executions.page(work, wanted, page)


@router.get(
    "/workflows/{workflow_id}/executions",
    dependencies=[requires("workflows:read")],
    responses=problems(404),
)
async def list_executions(
    work: WorkDep,
    page: PageDep,
    workflow_id: UUID,
    status: ExecutionStatus | None = None,
    device_id: UUID | None = None,
) -> ExecutionList:
    """List runs of one automation, newest first."""
    wanted = ExecutionFilter(workflow_id=workflow_id, status=status, device_id=device_id)
    return await executions.page(work, wanted, page)


@router.get(_RUN, dependencies=[requires("workflows:read")], responses=problems(404))
async def get_execution(
    work: WorkFactoryDep, services: ServicesDep, workflow_id: UUID, execution_id: UUID
) -> ExecutionView:
    """Return a run with the trace of its steps and, while it is going on, how it stands."""
    return await executions.get(services, work, workflow_id, execution_id)


@router.post(
    f"{_RUN}/approve", dependencies=[requires("workflows:approve")], responses=problems(404, 409)
)
async def approve(
    work: WorkFactoryDep,
    services: ServicesDep,
    workflow_id: UUID,
    execution_id: UUID,
    form: DecisionForm,
) -> DecisionView:
    """Answer an approval step; the step itself says who may."""
    return await executions.decide(services, work, workflow_id, execution_id, form)


@router.post(
    f"{_RUN}/reject", dependencies=[requires("workflows:approve")], responses=problems(404, 409)
)
async def reject(
    work: WorkFactoryDep,
    services: ServicesDep,
    workflow_id: UUID,
    execution_id: UUID,
    form: RejectionForm,
) -> DecisionView:
    """Refuse what an approval step asks for."""
    decision = DecisionForm(step=form.step, approved=False, comment=form.comment)
    return await executions.decide(services, work, workflow_id, execution_id, decision)


@router.post(
    f"{_RUN}/cancel",
    status_code=202,
    dependencies=[requires("workflows:execute")],
    responses=problems(404, 409),
)
async def cancel(
    work: WorkFactoryDep, services: ServicesDep, workflow_id: UUID, execution_id: UUID
) -> ExecutionSummary:
    """Ask a run to stop; what it has done stays done."""
    return await executions.cancel(services, work, workflow_id, execution_id)
