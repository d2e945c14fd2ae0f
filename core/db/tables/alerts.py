"""Alerts: definitions, raised instances (alarms), and whom to tell."""

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


class Alert(Table, table=True):
    """The definition of an alarm: a type of trouble, its severity, whom to tell."""

    __tablename__ = "alerts"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name"),)

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    name: str = Field(max_length=255)
    description: str = Field(default="", max_length=2000)
    severity: str = Field(default="warning", max_length=20)
    channel_ids: list[UUID] = Field(
        default_factory=list,
        sa_type=sa.ARRAY(sa.Uuid),
        sa_column_kwargs={"nullable": False, "server_default": sa.text("'{}'")},
    )
    created_at: Instant = moment(now=True)


class AlertInstance(Table, table=True):
    """One alarm. At most one of a definition is open for a device; raising it again counts.

    Attributes:
        status: raised, acknowledged, or cleared.
        source_key: Idempotency key of the step that raised it first.
    """

    __tablename__ = "alert_instances"
    __table_args__ = (
        sa.CheckConstraint("status in ('raised', 'acknowledged', 'cleared')", "status"),
        sa.CheckConstraint("severity in ('info', 'warning', 'critical')", "severity"),
        sa.Index(
            "ux_alert_instances_open",
            "alert_id",
            "device_id",
            unique=True,
            postgresql_where=sa.text("status <> 'cleared'"),
            postgresql_nulls_not_distinct=True,
        ),
        sa.Index("ix_alert_instances_tenant_raised", "tenant_id", "raised_at"),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    alert_id: UUID = reference("alerts.id", index=False)
    device_id: UUID | None = reference("devices.id", nullable=True, default=None)
    execution_id: UUID | None = reference(
        "workflow_executions.id", ondelete="SET NULL", nullable=True, default=None
    )
    severity: str = Field(max_length=20)
    message: str = Field(max_length=2000)
    details: Document = document()
    status: str = Field(default="raised", sa_column_kwargs={"server_default": "raised"})
    source_key: str = Field(max_length=500, unique=True)
    count: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    raised_at: Instant = moment(now=True)
    acknowledged_at: Instant = moment()
    acknowledged_by: UUID | None = reference(
        "users.id", ondelete="SET NULL", nullable=True, default=None
    )
    cleared_at: Instant = moment()


class NotificationChannel(Table, table=True):
    """A way to reach people. `configuration` is encrypted by the vault key."""

    __tablename__ = "notification_channels"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name"),)

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    name: str = Field(max_length=255)
    channel_type: str = Field(max_length=50)
    configuration: bytes = Field(sa_type=sa.LargeBinary)
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    created_at: Instant = moment(now=True)
