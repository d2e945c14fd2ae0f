"""Which broker processes live, and which of them a device is connected to."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; no broker runs meanwhile, so no device is online at one."""
    op.create_table(
        "broker_instances",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "heartbeat_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute("GRANT SELECT ON broker_instances TO iotlinker_api, iotlinker_worker")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON broker_instances TO iotlinker_ingest")
    op.add_column("devices", sa.Column("broker_id", sa.Uuid(), nullable=True))
    op.execute("GRANT UPDATE (broker_id) ON devices TO iotlinker_ingest")
    op.execute("UPDATE devices SET status = 'offline' WHERE status = 'online'")


def downgrade() -> None:
    """Undo."""
    op.drop_column("devices", "broker_id")
    op.drop_table("broker_instances")
