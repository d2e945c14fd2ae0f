"""Client certificates of devices; which desired state an external broker was given."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "device_credentials",
        sa.Column("kind", sa.String(), server_default="key", nullable=False),
    )
    op.add_column(
        "device_credentials", sa.Column("certificate_sha256", sa.LargeBinary(), nullable=True)
    )
    op.add_column("device_credentials", sa.Column("subject", sa.String(length=500), nullable=True))
    op.alter_column("device_credentials", "key_sha256", nullable=True)
    op.create_unique_constraint(
        "device_credentials_certificate_sha256_key", "device_credentials", ["certificate_sha256"]
    )
    op.create_check_constraint(
        "digest_of_its_kind",
        "device_credentials",
        "(kind = 'key' AND key_sha256 IS NOT NULL AND certificate_sha256 IS NULL) OR "
        "(kind = 'x509' AND certificate_sha256 IS NOT NULL AND key_sha256 IS NULL)",
    )
    op.add_column(
        "device_attributes",
        sa.Column("external_version", sa.Integer(), server_default="0", nullable=False),
    )
    op.create_index(
        "ix_device_attributes_unpublished",
        "device_attributes",
        ["device_id"],
        postgresql_where=sa.text("desired_version > external_version"),
    )
    op.execute("GRANT UPDATE (external_version) ON device_attributes TO iotlinker_ingest")


def downgrade() -> None:
    """Undo; devices lose their certificates."""
    op.drop_index("ix_device_attributes_unpublished", table_name="device_attributes")
    op.drop_column("device_attributes", "external_version")
    op.execute("DELETE FROM device_credentials WHERE kind <> 'key'")
    op.drop_constraint("digest_of_its_kind", "device_credentials")
    op.drop_constraint("device_credentials_certificate_sha256_key", "device_credentials")
    op.alter_column("device_credentials", "key_sha256", nullable=False)
    for column in ("subject", "certificate_sha256", "kind"):
        op.drop_column("device_credentials", column)
