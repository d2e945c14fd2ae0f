"""Who did what."""

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


class AuditEntry(Table, table=True):
    """One change made by somebody. Rows are only ever inserted."""

    __tablename__ = "audit_log"
    __table_args__ = (sa.Index("ix_audit_log_tenant_time", "tenant_id", "time"),)

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    time: Instant = moment(now=True)
    user_id: UUID | None = reference("users.id", ondelete="SET NULL", nullable=True, default=None)
    action: str = Field(max_length=100)
    resource_type: str = Field(max_length=100)
    resource_id: str | None = Field(default=None, max_length=200)
    details: Document = document()
    address: str = Field(default="", max_length=64)
