"""Dead letters say when and by whom they were replayed, and are listed over all devices."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "telemetry_dead_letters",
        sa.Column("replayed_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.add_column("telemetry_dead_letters", sa.Column("replayed_by", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        "telemetry_dead_letters_replayed_by_fkey",
        "telemetry_dead_letters",
        "users",
        ["replayed_by"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index("ix_dead_letters_time", "telemetry_dead_letters", ["tenant_id", "received_at"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_dead_letters_time", "telemetry_dead_letters")
    op.drop_column("telemetry_dead_letters", "replayed_by")
    op.drop_column("telemetry_dead_letters", "replayed_at")
