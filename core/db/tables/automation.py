"""Automations: definitions, immutable versions, executions, steps, and the trigger outbox."""

import sqlalchemy as sa
from sqlmodel import Field

from core.db.columns import (
    UUID,
    Document,
    Instant,
    Table,
    document,
    moment,
    reference,
    tenant_key,
    uuid_key,
)


class Workflow(Table, table=True):
    """An automation. `current_version` is the one that triggers start; null until published."""

    __tablename__ = "workflows"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name"),)

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    name: str = Field(max_length=255)
    description: str = Field(default="", max_length=2000)
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    current_version: int | None = None
    created_by: UUID | None = reference(
        "users.id", ondelete="SET NULL", nullable=True, default=None
    )
    created_at: Instant = moment(now=True)
    updated_at: Instant = moment(now=True)


class WorkflowVersion(Table, table=True):
    """One immutable definition of an automation."""

    __tablename__ = "workflow_versions"

    workflow_id: UUID = reference("workflows.id", primary_key=True, index=False)
    version: int = Field(primary_key=True)
    tenant_id: UUID = tenant_key()
    definition: Document = document()
    created_by: UUID | None = reference(
        "users.id", ondelete="SET NULL", nullable=True, default=None
    )
    created_at: Instant = moment(now=True)


class WorkflowExecution(Table, table=True):
    """One run, pinned to a version.

    Attributes:
        status: pending, running, waiting (for a person or a timer), completed, failed, cancelled.
        event_key: What started it, unique per automation: the same event never runs twice.
    """

    __tablename__ = "workflow_executions"
    __table_args__ = (
        sa.UniqueConstraint("workflow_id", "event_key"),
        sa.CheckConstraint(
            "status in ('pending', 'running', 'waiting', 'completed', 'failed', 'cancelled')",
            "status",
        ),
        sa.Index("ix_workflow_executions_tenant_started", "tenant_id", "started_at"),
        sa.Index(
            "ix_workflow_executions_open",
            "workflow_id",
            "device_id",
            postgresql_where=sa.text("status in ('pending', 'running', 'waiting')"),
        ),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    workflow_id: UUID = reference("workflows.id", index=False)
    version: int
    event_key: str = Field(max_length=200)
    temporal_id: str = Field(max_length=500)
    device_id: UUID | None = reference(
        "devices.id", ondelete="SET NULL", nullable=True, default=None
    )
    trigger: Document = document()
    dry_run: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    status: str = Field(default="pending", sa_column_kwargs={"server_default": "pending"})
    results: Document | None = document(None)
    error: Document | None = document(None)
    started_at: Instant = moment(now=True)
    completed_at: Instant = moment()


class WorkflowStepRun(Table, table=True):
    """The trace of one step of one run.

    Attributes:
        path: The step's place, e.g. `gate.then.stop`; unique within the run.
        status: running, waiting, completed, failed, skipped.
    """

    __tablename__ = "workflow_step_runs"

    execution_id: UUID = reference("workflow_executions.id", primary_key=True, index=False)
    path: str = Field(max_length=500, primary_key=True)
    tenant_id: UUID = tenant_key()
    position: int
    step_type: str = Field(max_length=50)
    status: str = Field(max_length=20)
    input: Document | None = document(None)
    output: Document | None = document(None)
    error: Document | None = document(None)
    attempt: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    started_at: Instant = moment()
    completed_at: Instant = moment()


class TriggerOutbox(Table, table=True):
    """Something that Temporal must be told, committed together with its cause.

    Attributes:
        kind: start_run, start_workflow, or signal.
        key: Temporal workflow id (with the signal's own id for a signal); unique, so a repeated
            cause is told once.
        payload: What `core.temporal.outbox` defines for the kind.
    """

    __tablename__ = "trigger_outbox"
    __table_args__ = (
        sa.CheckConstraint("kind in ('start_run', 'start_workflow', 'signal')", "kind"),
        sa.Index(
            "ix_trigger_outbox_due", "available_at", postgresql_where=sa.text("done_at is null")
        ),
        sa.Index(
            "ix_trigger_outbox_done", "done_at", postgresql_where=sa.text("done_at is not null")
        ),
    )

    id: int | None = Field(
        default=None,
        sa_column=sa.Column(sa.BigInteger, sa.Identity(always=True), primary_key=True),
    )
    tenant_id: UUID = tenant_key()
    kind: str = Field(max_length=20)
    key: str = Field(max_length=500, unique=True)
    payload: Document = document()
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    last_error: str | None = None
    created_at: Instant = moment(now=True)
    available_at: Instant = moment(now=True)
    done_at: Instant = moment()


class TriggerState(Table, table=True):
    """What a telemetry trigger remembers about one device, so that a restart forgets nothing.

    Attributes:
        active: The condition has held since `since` and has not been released by the hysteresis.
        fired: It fired during this activation.
        last_fired: Instant of the last firing, for the cooldown.
        definition_sha256: Of the trigger's JSON; the state of another definition is void.
    """

    __tablename__ = "trigger_states"

    workflow_id: UUID = reference("workflows.id", primary_key=True, index=False)
    trigger_index: int = Field(primary_key=True)
    device_id: UUID = reference("devices.id", primary_key=True)
    tenant_id: UUID = tenant_key()
    active: bool
    fired: bool
    since: Instant = moment()
    last_fired: Instant = moment()
    definition_sha256: bytes = Field(sa_type=sa.LargeBinary)
