"""Automations, their versions and their runs, as people manage and read them."""

from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.columns import Document
from core.db.repositories.devices import like
from core.db.tables import Workflow, WorkflowExecution, WorkflowStepRun, WorkflowVersion

ACTIVE = ("pending", "running", "waiting")
"""Statuses of runs that have not ended."""


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Which automations are wanted; None means any."""

    enabled: bool | None = None
    search: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which runs are wanted; None means any."""

    workflow_id: UUID | None = None
    status: str | None = None
    device_id: UUID | None = None


async def page(
    session: AsyncSession, wanted: WorkflowFilter, *, offset: int, limit: int
) -> tuple[list[Workflow], int]:
    """Return automations by name, and how many match."""
    filters: list[sa.ColumnElement[bool]] = []
    if wanted.enabled is not None:
        filters.append(col(Workflow.enabled).is_(wanted.enabled))
    if wanted.search is not None:
        filters.append(col(Workflow.name).ilike(like(wanted.search), escape="\\"))
    total = await session.scalar(select(sa.func.count()).select_from(Workflow).where(*filters))
    rows = await session.scalars(
        select(Workflow).where(*filters).order_by(col(Workflow.name)).offset(offset).limit(limit)
    )
    return list(rows), total or 0


async def get(session: AsyncSession, workflow_id: UUID, *, lock: bool = False) -> Workflow | None:
    """Return one automation; with `lock`, nobody else changes it meanwhile."""
    statement = select(Workflow).where(col(Workflow.id) == workflow_id)
    return await session.scalar(statement.with_for_update() if lock else statement)


async def name_in_use(session: AsyncSession, name: str, *, other_than: UUID | None = None) -> bool:
    """Tell whether another automation of this tenant has a name."""
    statement = select(col(Workflow.id)).where(col(Workflow.name) == name)
    if other_than is not None:
        statement = statement.where(col(Workflow.id) != other_than)
    return await session.scalar(statement.limit(1)) is not None


async def publish(
    session: AsyncSession, workflow: Workflow, definition: Document, created_by: UUID
) -> WorkflowVersion:
    """Add the next version of an automation, and let triggers start it from now on.

    Args:
        session: The running transaction, in which the automation is new or locked.
        workflow: The automation.
        definition: A valid definition.
        created_by: The user who made it.
    """
    version = WorkflowVersion(
        workflow_id=workflow.id,
        version=(workflow.current_version or 0) + 1,
        tenant_id=workflow.tenant_id,
        definition=definition,
        created_by=created_by,
    )
    session.add(version)
    await session.flush()
    workflow.current_version = version.version
    workflow.updated_at = await session.scalar(sa.select(sa.func.now()))
    session.add(workflow)
    await session.flush()
    await session.refresh(version)
    return version


async def version(
    session: AsyncSession, workflow_id: UUID, number: int | None
) -> WorkflowVersion | None:
    """Return one version of an automation."""
    return await session.scalar(
        select(WorkflowVersion).where(
            col(WorkflowVersion.workflow_id) == workflow_id,
            col(WorkflowVersion.version) == number,
        )
    )


async def versions(
    session: AsyncSession, workflow_id: UUID, *, offset: int, limit: int
) -> tuple[list[WorkflowVersion], int]:
    """Return versions of an automation, newest first, and how many there are."""
    mine = col(WorkflowVersion.workflow_id) == workflow_id
    total = await session.scalar(select(sa.func.count()).select_from(WorkflowVersion).where(mine))
    rows = await session.scalars(
        select(WorkflowVersion)
        .where(mine)
        .order_by(col(WorkflowVersion.version).desc())
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0


async def has_active_runs(session: AsyncSession, workflow_id: UUID) -> bool:
    """Tell whether a run of an automation has not ended."""
    found = await session.scalar(
        select(col(WorkflowExecution.id))
        .where(
            col(WorkflowExecution.workflow_id) == workflow_id,
            col(WorkflowExecution.status).in_(ACTIVE),
        )
        .limit(1)
    )
    return found is not None


async def executions(
    session: AsyncSession, wanted: ExecutionFilter, *, offset: int, limit: int
) -> tuple[list[WorkflowExecution], int]:
    """Return runs, newest first, and how many match."""
    filters = [
        column == value
        for column, value in (
            (col(WorkflowExecution.workflow_id), wanted.workflow_id),
            (col(WorkflowExecution.status), wanted.status),
            (col(WorkflowExecution.device_id), wanted.device_id),
        )
        if value is not None
    ]
    total = await session.scalar(
        select(sa.func.count()).select_from(WorkflowExecution).where(*filters)
    )
    rows = await session.scalars(
        select(WorkflowExecution)
        .where(*filters)
        .order_by(col(WorkflowExecution.started_at).desc(), col(WorkflowExecution.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0


async def execution(
    session: AsyncSession, workflow_id: UUID, execution_id: UUID
) -> WorkflowExecution | None:
    """Return one run of an automation."""
    return await session.scalar(
        select(WorkflowExecution).where(
            col(WorkflowExecution.id) == execution_id,
            col(WorkflowExecution.workflow_id) == workflow_id,
        )
    )


async def steps(session: AsyncSession, execution_id: UUID) -> list[WorkflowStepRun]:
    """Return the trace of a run, in the order in which its steps began."""
    rows = await session.scalars(
        select(WorkflowStepRun)
        .where(col(WorkflowStepRun.execution_id) == execution_id)
        .order_by(
            col(WorkflowStepRun.position),
            col(WorkflowStepRun.started_at),
            col(WorkflowStepRun.path),
        )
    )
    return list(rows)
