"""Runs of automations: starting them once, their status, their trace."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import Webhook, WorkflowExecution
from core.errors import NotFoundError
from core.temporal.steps import RunRecord


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be made; `id` follows from its event."""

    id: UUID
    workflow_id: UUID
    version: int
    event_key: str
    temporal_id: str
    trigger: dict[str, Any]
    device_id: UUID | None
    dry_run: bool


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What the run is started with.

    Attributes:
        definition: Of its version.
        device: As expressions see it, as it is now.
        status: Of the execution that was there already, None when it was made just now.
    """

    definition: dict[str, Any]
    device: dict[str, Any] | None
    status: str | None


_PREPARE = sa.text(
    """
    WITH wanted AS (
        SELECT workflow_id, version, tenant_id, definition FROM workflow_versions
        WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND version = :version
    ), made AS (
        INSERT INTO workflow_executions
            (id, tenant_id, workflow_id, version, event_key, temporal_id, device_id, trigger,
             dry_run)
        SELECT :id, tenant_id, workflow_id, version, :event_key, :temporal_id,
               (SELECT id FROM devices WHERE tenant_id = :tenant_id AND id = :device_id),
               :trigger, :dry_run
        FROM wanted
        ON CONFLICT DO NOTHING
    )
    SELECT wanted.definition, (
        SELECT status FROM workflow_executions WHERE tenant_id = :tenant_id AND id = :id
    ) AS status, (
        SELECT jsonb_build_object(
            'id', d.id, 'name', d.name, 'type', p.name, 'site', d.site,
            'tags', d.tags, 'metadata', d.metadata, 'location', d.location)
        FROM devices d JOIN device_profiles p ON p.id = d.profile_id
        WHERE d.tenant_id = :tenant_id AND d.id = :device_id
    ) AS device
    FROM wanted
    """
).bindparams(
    sa.bindparam("trigger", type_=JSONB),
    sa.bindparam("device_id", type_=sa.Uuid),
)
_ACTIVE = sa.text(
    """
    SELECT id, temporal_id FROM workflow_executions
    WHERE tenant_id = :tenant_id AND workflow_id = :workflow_id AND id <> :id
        AND status IN ('pending', 'running', 'waiting')
        AND (NOT :same_device OR device_id IS NOT DISTINCT FROM :device_id)
    ORDER BY started_at
    LIMIT :most
    """
).bindparams(sa.bindparam("device_id", type_=sa.Uuid))
_LOCK = sa.text(
    "SELECT 1 FROM workflows WHERE tenant_id = :tenant_id AND id = :workflow_id FOR NO KEY UPDATE"
)
_RECORD = sa.text(
    """
    WITH run AS (
        SELECT id FROM workflow_executions WHERE tenant_id = :tenant_id AND id = :execution_id
    ), trace AS (
        INSERT INTO workflow_step_runs AS old
            (execution_id, tenant_id, path, position, step_type, status, input, output, error,
             attempt, started_at, completed_at)
        SELECT run.id, :tenant_id, s.path, s.position, s.step_type, s.status, s.input, s.output,
               s.error, s.attempt, s.started_at, s.completed_at
        FROM run, jsonb_to_recordset(CAST(:steps AS jsonb)) AS s (
            path text, position int, step_type text, status text, input jsonb, output jsonb,
            error jsonb, attempt int, started_at timestamptz, completed_at timestamptz)
        ON CONFLICT (execution_id, path) DO UPDATE SET
            status = excluded.status, input = excluded.input, output = excluded.output,
            error = excluded.error, attempt = excluded.attempt, started_at = excluded.started_at,
            completed_at = excluded.completed_at
        WHERE old.status NOT IN ('completed', 'failed', 'skipped')
    )
    UPDATE workflow_executions SET
        status = coalesce(:status, status),
        results = coalesce(CAST(:results AS jsonb), results),
        error = coalesce(CAST(:error AS jsonb), error),
        completed_at = CASE WHEN :status IN ('completed', 'failed', 'cancelled')
                            THEN CAST(:at AS timestamptz) ELSE completed_at END
    WHERE tenant_id = :tenant_id AND id = :execution_id
        AND status NOT IN ('completed', 'failed', 'cancelled')
    RETURNING id
    """
).bindparams(
    sa.bindparam("status", type_=sa.Text),
    sa.bindparam("at", type_=sa.DateTime(timezone=True)),
)


async def prepare_run(session: AsyncSession, tenant_id: UUID, run: NewRun) -> PreparedRun:
    """Store the execution, once, and return what it is to be started with.

    Raises:
        NotFoundError: The tenant has no such version.
    """
    row = (
        await session.execute(
            _PREPARE,
            {
                "tenant_id": tenant_id,
                "id": run.id,
                "workflow_id": run.workflow_id,
                "version": run.version,
                "event_key": run.event_key,
                "temporal_id": run.temporal_id,
                "trigger": run.trigger,
                "device_id": run.device_id,
                "dry_run": run.dry_run,
            },
        )
    ).first()
    if row is None:
        raise NotFoundError(f"there is no version {run.version} of automation {run.workflow_id}")
    return PreparedRun(row.definition, row.device, row.status)


async def lock_automation(session: AsyncSession, tenant_id: UUID, workflow_id: UUID) -> None:
    """Let nobody else count or start its runs until the end of the transaction."""
    await session.execute(_LOCK, {"tenant_id": tenant_id, "workflow_id": workflow_id})


async def active_runs(
    session: AsyncSession, tenant_id: UUID, run: NewRun, *, same_device: bool, most: int
) -> list[tuple[UUID, str]]:
    """Return ids and Temporal ids of other runs of the automation that are going on.

    Args:
        session: The running transaction.
        tenant_id: The automation's tenant.
        run: The run that is not meant.
        same_device: Only those for the same device.
        most: Oldest so many.
    """
    rows = await session.execute(
        _ACTIVE,
        {
            "tenant_id": tenant_id,
            "workflow_id": run.workflow_id,
            "id": run.id,
            "device_id": run.device_id,
            "same_device": same_device,
            "most": most,
        },
    )
    return [(row.id, row.temporal_id) for row in rows]


async def count_runs(session: AsyncSession, tenant_id: UUID, status: str) -> int:
    """Return how many runs of a tenant have a status."""
    found = await session.scalar(
        select(sa.func.count()).where(
            col(WorkflowExecution.tenant_id) == tenant_id, col(WorkflowExecution.status) == status
        )
    )
    return found or 0


async def end_run(
    session: AsyncSession, tenant_id: UUID, execution_id: UUID, status: str, error: dict[str, Any]
) -> None:
    """End a run from outside: it was dropped, or something ended it unrecorded."""
    await session.execute(
        sa.update(WorkflowExecution)
        .where(
            col(WorkflowExecution.tenant_id) == tenant_id,
            col(WorkflowExecution.id) == execution_id,
            col(WorkflowExecution.status).in_(("pending", "running", "waiting")),
        )
        .values(status=status, error=error, completed_at=sa.func.now())
    )


async def record_run(session: AsyncSession, record: RunRecord) -> bool:
    """Store steps and status of a run; what has ended is not changed any more.

    Returns:
        False when the run is gone or ended, so that nobody need be told.
    """
    row = await session.execute(
        _RECORD,
        {
            "tenant_id": record.tenant_id,
            "execution_id": record.execution_id,
            "steps": _json([step.model_dump(mode="json") for step in record.steps]),
            "status": record.status,
            "results": None if record.results is None else _json(record.results),
            "error": None if record.error is None else _json(record.error),
            "at": record.at,
        },
    )
    return row.first() is not None


def _json(value: object) -> str:
    # PostgreSQL's text has no NUL; devices and other people's servers may send one.
    return msgspec.json.encode(value).decode().replace("\\u0000", "\\ufffd")


async def find_webhook(session: AsyncSession, tenant_id: UUID, name_or_id: str) -> UUID:
    """Return the id of the endpoint that a step names.

    Raises:
        NotFoundError: The tenant has none of this name or id.
    """
    found = await session.scalar(
        select(Webhook.id).where(
            col(Webhook.tenant_id) == tenant_id,
            sa.or_(
                col(Webhook.name) == name_or_id, sa.cast(col(Webhook.id), sa.Text) == name_or_id
            ),
        )
    )
    if found is None:
        raise NotFoundError(f"there is no webhook `{name_or_id}`")
    return found
