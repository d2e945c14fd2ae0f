"""Outgoing webhooks: endpoints, deliveries, attempts."""

import sqlalchemy as sa
from sqlmodel import Field

from core.db.columns import UUID, Instant, Table, moment, reference, tenant_key, uuid_key


class Webhook(Table, table=True):
    """An endpoint. `secret` (`whsec_…`) is encrypted by the vault key.

    Attributes:
        event_types: Events it wants; empty means all.
        failing_since: First failure of the current unbroken row of failures.
    """

    __tablename__ = "webhooks"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name"),)

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    name: str = Field(max_length=255)
    url: str = Field(max_length=2000)
    secret: bytes = Field(sa_type=sa.LargeBinary)
    event_types: list[str] = Field(
        default_factory=list,
        sa_type=sa.ARRAY(sa.Text),
        sa_column_kwargs={"nullable": False, "server_default": sa.text("'{}'")},
    )
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    disabled_reason: str | None = Field(default=None, max_length=500)
    failing_since: Instant = moment()
    created_at: Instant = moment(now=True)


class WebhookDelivery(Table, table=True):
    """One event for one endpoint. `id` is the `webhook-id` header; `body` is sent byte for byte.

    Attributes:
        status: pending, delivered, failed, or discarded (the endpoint was disabled or deleted).
        source_key: Idempotency key of what caused it.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        sa.CheckConstraint("status in ('pending', 'delivered', 'failed', 'discarded')", "status"),
        sa.UniqueConstraint("webhook_id", "source_key"),
        sa.Index("ix_webhook_deliveries_tenant_created", "tenant_id", "created_at"),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    webhook_id: UUID = reference("webhooks.id", index=False)
    event_type: str = Field(max_length=100)
    body: bytes = Field(sa_type=sa.LargeBinary)
    source_key: str = Field(max_length=500)
    status: str = Field(default="pending", sa_column_kwargs={"server_default": "pending"})
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    next_attempt_at: Instant = moment()
    created_at: Instant = moment(now=True)
    completed_at: Instant = moment()


class WebhookAttempt(Table, table=True):
    """One try of one delivery."""

    __tablename__ = "webhook_attempts"

    delivery_id: UUID = reference("webhook_deliveries.id", primary_key=True, index=False)
    attempt: int = Field(primary_key=True)
    tenant_id: UUID = tenant_key()
    started_at: Instant = moment(now=True)
    duration_ms: float
    status_code: int | None = None
    error: str | None = Field(default=None, max_length=1000)
