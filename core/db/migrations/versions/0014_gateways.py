"""Devices behind gateways, claims of devices, and profiles that provision devices."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLES = ("gateway_children", "device_claims", "provisioning_keys")
GRANTS = (
    "SELECT, INSERT ON gateway_children",
    "SELECT, INSERT, UPDATE ON device_claims",
    "SELECT ON provisioning_keys",
    "INSERT (id, tenant_id, profile_id, name, lifecycle, metadata, activated_at) ON devices",
    "INSERT (tenant_id, device_id, key_sha256) ON device_credentials",
)


def _device(column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["devices.id"], ondelete="CASCADE")


def _tenant() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE")


def _now() -> sa.Column[datetime]:
    return sa.Column(
        "created_at",
        sa.DateTime(timezone=True),
        server_default=sa.text("now()"),
        nullable=False,
    )


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "gateway_children",
        sa.Column("gateway_id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        _now(),
        _device("gateway_id"),
        _device("device_id"),
        _tenant(),
        sa.PrimaryKeyConstraint("gateway_id", "device_id"),
        sa.UniqueConstraint("gateway_id", "name"),
    )
    op.create_index("ix_gateway_children_device_id", "gateway_children", ["device_id"])
    op.create_table(
        "device_claims",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_by", sa.Uuid(), nullable=True),
        _device("device_id"),
        _tenant(),
        sa.ForeignKeyConstraint(["claimed_by"], ["users.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("device_id"),
    )
    op.create_table(
        "provisioning_keys",
        sa.Column("profile_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        _now(),
        sa.ForeignKeyConstraint(["profile_id"], ["device_profiles.id"], ondelete="CASCADE"),
        _tenant(),
        sa.PrimaryKeyConstraint("profile_id"),
        sa.UniqueConstraint("key"),
    )
    for table in TABLES:
        op.create_index(f"ix_{table}_tenant_id", table, ["tenant_id"])
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} TO iotlinker_api, iotlinker_worker "
            "USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())"
        )
        op.execute(
            f"CREATE POLICY owner ON {table} TO iotlinker_owner USING (true) WITH CHECK (true)"
        )
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO iotlinker_api")
    for grant in GRANTS:
        op.execute(f"GRANT {grant} TO iotlinker_ingest")


def downgrade() -> None:
    """Undo; gateways lose their devices, which stay."""
    op.execute(
        "REVOKE INSERT (id, tenant_id, profile_id, name, lifecycle, metadata, activated_at) "
        "ON devices FROM iotlinker_ingest"
    )
    op.execute(
        "REVOKE INSERT (tenant_id, device_id, key_sha256) ON device_credentials "
        "FROM iotlinker_ingest"
    )
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
