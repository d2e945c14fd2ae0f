"""Imports of files of measurements, and the rows they refused."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

GRANTS = (
    "SELECT, INSERT, UPDATE, DELETE ON telemetry_imports TO iotlinker_api",
    "SELECT ON telemetry_import_refusals TO iotlinker_api",
    "SELECT, UPDATE ON telemetry_imports TO iotlinker_worker",
    "SELECT ON telemetry_import_refusals TO iotlinker_worker",
    # Rows, counts and refusals are one transaction, which is the ingest role's.
    "SELECT ON telemetry_imports TO iotlinker_ingest",
    "UPDATE (rows_read, stored, duplicates, refused, fraction)"
    " ON telemetry_imports TO iotlinker_ingest",
    "INSERT ON telemetry_import_refusals TO iotlinker_ingest",
)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "telemetry_imports",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("format", sa.String(length=20), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("columns", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("mapping", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("fire_triggers", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("status", sa.String(), server_default="uploaded", nullable=False),
        _count("rows_read"),
        _count("stored"),
        _count("duplicates"),
        _count("refused"),
        sa.Column("fraction", sa.Float(), server_default="0", nullable=False),
        sa.Column("error", sa.String(length=1000), nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status in ('uploaded', 'running', 'completed', 'failed', 'cancelled')", name="status"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_telemetry_imports_tenant_id", "telemetry_imports", ["tenant_id"])
    op.create_index(
        "ix_telemetry_imports_created", "telemetry_imports", ["tenant_id", "created_at"]
    )
    op.create_table(
        "telemetry_import_refusals",
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("column_name", sa.String(length=255), nullable=False),
        sa.Column("code", sa.String(length=50), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=False),
        sa.Column("cells", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["import_id"], ["telemetry_imports.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("import_id", "row"),
    )
    op.create_index(
        "ix_telemetry_import_refusals_tenant_id", "telemetry_import_refusals", ["tenant_id"]
    )
    for table in ("telemetry_imports", "telemetry_import_refusals"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} TO iotlinker_api, iotlinker_worker "
            "USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())"
        )
        op.execute(
            f"CREATE POLICY owner ON {table} TO iotlinker_owner USING (true) WITH CHECK (true)"
        )
    for grant in GRANTS:
        op.execute(f"GRANT {grant}")


def downgrade() -> None:
    """Undo."""
    op.drop_table("telemetry_import_refusals")
    op.drop_table("telemetry_imports")
