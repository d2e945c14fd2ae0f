"""Makes automations, asks for runs as the API does, and reads what came of them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from redis.asyncio import Redis
from sqlmodel import col, select

from core import bus
from core.db.repositories import outbox
from core.db.session import Database
from core.db.tables import Workflow, WorkflowExecution, WorkflowStepRun, WorkflowVersion
from core.temporal import names
from core.temporal.outbox import StartRun


@dataclass(frozen=True, slots=True)
class AskedRun:
    """A run that was asked for."""

    tenant_id: UUID
    workflow_id: UUID
    id: UUID
    temporal_id: str


async def make_automation(owner: Database, tenant_id: UUID, definition: dict[str, Any]) -> UUID:
    """Return a new automation whose version 1 is published."""
    async with owner.transaction(tenant_id) as session:
        workflow = Workflow(
            tenant_id=tenant_id, name=f"{definition['name']} {uuid4().hex[:6]}", current_version=1
        )
        session.add(workflow)
        await session.flush()
        session.add(
            WorkflowVersion(
                workflow_id=workflow.id, version=1, tenant_id=tenant_id, definition=definition
            )
        )
        return workflow.id


async def ask_for_run(
    database: Database,
    valkey: Redis,
    tenant_id: UUID,
    workflow_id: UUID,
    *,
    trigger: dict[str, Any] | None = None,
    device_id: UUID | None = None,
    dry_run: bool = False,
    event_key: str | None = None,
    version: int = 1,
) -> AskedRun:
    """Queue a run, as a cause does in its transaction."""
    key = event_key or f"manual:{uuid4()}"
    async with database.transaction(tenant_id) as session:
        await outbox.enqueue(
            session,
            tenant_id,
            StartRun(
                workflow_id=str(workflow_id),
                version=version,
                event_key=key,
                trigger=trigger or {"type": "manual", "input": {}},
                device_id=str(device_id) if device_id else None,
                dry_run=dry_run,
            ),
        )
    await valkey.publish(bus.OUTBOX, "")
    temporal_id = names.run_id(tenant_id, workflow_id, key)
    return AskedRun(tenant_id, workflow_id, names.stable_uuid(temporal_id), temporal_id)


async def execution(database: Database, run: AskedRun) -> WorkflowExecution | None:
    """Return the execution as it is stored, if it is."""
    async with database.transaction(run.tenant_id) as session:
        return await session.get(WorkflowExecution, run.id)


async def trace(database: Database, run: AskedRun) -> dict[str, WorkflowStepRun]:
    """Return the steps of a run by path, in their order."""
    async with database.transaction(run.tenant_id) as session:
        rows = await session.execute(
            select(WorkflowStepRun)
            .where(col(WorkflowStepRun.execution_id) == run.id)
            .order_by(col(WorkflowStepRun.position))
        )
        return {row.path: row for row in rows.scalars()}


def definition(*actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a definition with these steps."""
    return {"name": "Test", "triggers": [{"type": "manual"}], "actions": list(actions), **more}
