"""A device's name is free again once it is out of service; who may send measurements by API."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PERMISSION = "telemetry:write"
DESCRIPTION = "Send and import measurements; replay and delete dead letters"
ROLES = ("super_admin", "tenant_admin", "department_manager")


def upgrade() -> None:
    """Apply."""
    op.drop_constraint("devices_tenant_id_name_key", "devices", type_="unique")
    op.create_index(
        "ix_devices_name_in_service",
        "devices",
        ["tenant_id", "name"],
        unique=True,
        postgresql_where=sa.text("lifecycle <> 'decommissioned'"),
    )
    op.create_index("ix_devices_tenant_name", "devices", ["tenant_id", "name"])
    connection = op.get_bind()
    connection.execute(
        sa.text(
            "INSERT INTO permissions (name, description) VALUES (:name, :description) "
            "ON CONFLICT (name) DO NOTHING"
        ),
        {"name": PERMISSION, "description": DESCRIPTION},
    )
    connection.execute(
        sa.text(
            "INSERT INTO role_permissions (role_id, permission) SELECT id, :name FROM roles "
            "WHERE tenant_id IS NULL AND name = ANY(:roles) ON CONFLICT DO NOTHING"
        ),
        {"name": PERMISSION, "roles": list(ROLES)},
    )


def downgrade() -> None:
    """Undo; devices out of service whose name was given to another are renamed by their id."""
    connection = op.get_bind()
    connection.execute(sa.text("DELETE FROM permissions WHERE name = :name"), {"name": PERMISSION})
    op.drop_index("ix_devices_tenant_name", "devices")
    op.drop_index("ix_devices_name_in_service", "devices")
    op.execute(
        "UPDATE devices d SET name = left(d.name, 218) || ' ' || d.id "
        "WHERE d.lifecycle = 'decommissioned' AND EXISTS (SELECT FROM devices o WHERE "
        "o.tenant_id = d.tenant_id AND o.name = d.name AND o.id <> d.id)"
    )
    op.create_unique_constraint("devices_tenant_id_name_key", "devices", ["tenant_id", "name"])
