"""Lasting MQTT sessions and retained messages."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("mqtt_sessions", "mqtt_messages", "mqtt_received", "mqtt_retained")
GRANTS = (
    "SELECT, INSERT, DELETE ON mqtt_sessions, mqtt_messages, mqtt_received, mqtt_retained",
    "UPDATE (filters, away_since) ON mqtt_sessions",
    "UPDATE (released) ON mqtt_messages",
    "UPDATE (qos, payload) ON mqtt_retained",
)


def _tenant() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE")


def _session() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["session_id"], ["mqtt_sessions.id"], ondelete="CASCADE")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "mqtt_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.String(length=128), nullable=False),
        sa.Column(
            "filters",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("away_since", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], ondelete="CASCADE"),
        _tenant(),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("device_id", "client_id"),
    )
    op.create_index("ix_mqtt_sessions_tenant_id", "mqtt_sessions", ["tenant_id"])
    op.create_table(
        "mqtt_messages",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("packet_id", sa.Integer(), nullable=False),
        sa.Column("qos", sa.SmallInteger(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("retain", sa.Boolean(), nullable=False),
        sa.Column("released", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _session(),
        _tenant(),
        sa.PrimaryKeyConstraint("session_id", "position"),
    )
    op.create_table(
        "mqtt_received",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("packet_id", sa.Integer(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        _session(),
        _tenant(),
        sa.PrimaryKeyConstraint("session_id", "packet_id"),
    )
    op.create_table(
        "mqtt_retained",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("qos", sa.SmallInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        _tenant(),
        sa.PrimaryKeyConstraint("tenant_id", "topic"),
    )
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {table} TO iotlinker_api, iotlinker_worker "
            "USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())"
        )
        op.execute(
            f"CREATE POLICY owner ON {table} TO iotlinker_owner USING (true) WITH CHECK (true)"
        )
        op.execute(f"GRANT SELECT ON {table} TO iotlinker_api, iotlinker_worker")
    for grant in GRANTS:
        op.execute(f"GRANT {grant} TO iotlinker_ingest")


def downgrade() -> None:
    """Undo; sessions and retained messages are lost."""
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
