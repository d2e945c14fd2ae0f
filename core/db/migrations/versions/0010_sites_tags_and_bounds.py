"""Site and tags of devices, and how many dead letters of a device were dropped."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; a site that was kept in the metadata is taken over."""
    op.add_column("devices", sa.Column("site", sa.String(length=100), nullable=True))
    op.add_column(
        "devices",
        sa.Column("tags", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
    )
    op.add_column(
        "devices",
        sa.Column("dead_letters_dropped", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.create_index("ix_devices_tenant_site", "devices", ["tenant_id", "site"])
    op.create_index("ix_devices_tags", "devices", ["tags"], postgresql_using="gin")
    op.execute(
        """
        UPDATE devices SET site = left(metadata->>'site', 100)
        WHERE jsonb_typeof(metadata->'site') = 'string' AND metadata->>'site' <> ''
        """
    )
    # Ingest deletes the oldest dead letters of a device and counts them.
    op.execute("GRANT UPDATE (dead_letters_dropped) ON devices TO iotlinker_ingest")
    op.execute(
        "GRANT SELECT (id, tenant_id, device_id, received_at), DELETE "
        "ON telemetry_dead_letters TO iotlinker_ingest"
    )


def downgrade() -> None:
    """Undo."""
    op.execute(
        "REVOKE SELECT (id, tenant_id, device_id, received_at), DELETE "
        "ON telemetry_dead_letters FROM iotlinker_ingest"
    )
    op.execute("REVOKE UPDATE (dead_letters_dropped) ON devices FROM iotlinker_ingest")
    op.drop_index("ix_devices_tags", "devices")
    op.drop_index("ix_devices_tenant_site", "devices")
    op.drop_column("devices", "dead_letters_dropped")
    op.drop_column("devices", "tags")
    op.drop_column("devices", "site")
