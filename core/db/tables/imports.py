"""Files of measurements that are imported."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
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


def _count() -> Any:
    return Field(
        default=0,
        sa_type=sa.BigInteger,
        sa_column_kwargs={"nullable": False, "server_default": "0"},
    )


class TelemetryImport(Table, table=True):
    """A file of measurements that was uploaded to be stored.

    Attributes:
        columns: Names of the file's columns.
        mapping: What they mean, in the form of `core.imports.mapping`; null before the start.
        status: uploaded, running, completed, failed or cancelled.
        rows_read: Rows that are dealt with: stored, known already, or refused. The import goes on
            after them, since it is written together with them.
        fraction: Share of the file that is dealt with.
    """

    __tablename__ = "telemetry_imports"
    __table_args__ = (
        sa.CheckConstraint(
            "status in ('uploaded', 'running', 'completed', 'failed', 'cancelled')", "status"
        ),
        sa.Index("ix_telemetry_imports_created", "tenant_id", "created_at"),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    filename: str = Field(max_length=255)
    format: str = Field(max_length=20)
    size: int = Field(sa_type=sa.BigInteger)
    columns: list[str] = Field(sa_type=ARRAY(sa.Text), sa_column_kwargs={"nullable": False})
    mapping: Document | None = document(None)
    fire_triggers: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    status: str = Field(default="uploaded", sa_column_kwargs={"server_default": "uploaded"})
    rows_read: int = _count()
    stored: int = _count()
    duplicates: int = _count()
    refused: int = _count()
    fraction: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    error: str | None = Field(default=None, max_length=1000)
    created_by: UUID | None = reference(
        "users.id", ondelete="SET NULL", index=False, nullable=True, default=None
    )
    created_at: Instant = moment(now=True)
    started_at: Instant = moment()
    ended_at: Instant = moment()


class ImportRefusal(Table, table=True):
    """A row of a file that was not stored, and why.

    Attributes:
        row: Its number; the first after the header is 1.
        column_name: Which column is at fault; "" is the row as a whole.
        cells: The row as text.
    """

    __tablename__ = "telemetry_import_refusals"

    import_id: UUID = Field(
        foreign_key="telemetry_imports.id", ondelete="CASCADE", primary_key=True
    )
    row: int = Field(sa_type=sa.BigInteger, primary_key=True)
    tenant_id: UUID = tenant_key()
    column_name: str = Field(max_length=255)
    code: str = Field(max_length=50)
    message: str = Field(max_length=1000)
    cells: list[str] = Field(sa_type=ARRAY(sa.Text), sa_column_kwargs={"nullable": False})
