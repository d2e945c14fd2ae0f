"""The platform's roles and permissions, after the authorization model of the requirements."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SYSTEM = {
    "system:read": "See the state and settings of the installation",
    "system:manage": "Change the settings of the installation",
    "tenants:read": "See tenants",
    "tenants:manage": "Create and change tenants",
}
USERS = {
    "users:read": "See users and their roles",
    "users:manage": "Create users, change their roles, end their sessions",
    "audit:read": "Read who did what",
}
DEVICES = {
    "profiles:manage": "Create and change device profiles",
    "devices:create": "Create devices",
    "devices:update": "Change devices and their desired state",
    "devices:delete": "Take devices out of service",
    "devices:provision": "Provision devices and replace their keys",
    "devices:command": "Send commands to devices",
    "models:train": "Train models",
    "webhooks:manage": "Create and change webhooks",
}
DATA = {
    "profiles:read": "See device profiles",
    "devices:read": "See devices, their state, events and commands",
    "telemetry:read": "Read measurements",
    "alerts:read": "See alerts",
    "workflows:read": "See automations and their runs",
}
WORKFLOWS = {
    "workflows:create": "Create automations",
    "workflows:update": "Change, enable and disable automations",
    "workflows:delete": "Delete automations",
    "workflows:execute": "Start and cancel runs",
    "workflows:approve": "Answer approvals of runs",
    "alerts:update": "Acknowledge and clear alerts",
    "webhooks:read": "See webhooks and their deliveries",
}
REPORTS = {
    "analytics:read": "See models and predictions",
    "analytics:predict": "Ask models for predictions",
}
PERMISSIONS = SYSTEM | USERS | DEVICES | DATA | WORKFLOWS | REPORTS

ROLES = {
    "super_admin": ("Runs the installation", PERMISSIONS),
    "tenant_admin": (
        "Runs one tenant",
        USERS | DEVICES | DATA | WORKFLOWS | REPORTS,
    ),
    "department_manager": ("Runs a fleet", DEVICES | DATA | WORKFLOWS | REPORTS),
    "team_lead": ("Builds automations", DATA | WORKFLOWS | REPORTS),
    "end_user": ("Reads data and reports", DATA | REPORTS),
}


def upgrade() -> None:
    """Apply; what is there already is left alone."""
    connection = op.get_bind()
    for name, description in PERMISSIONS.items():
        connection.execute(
            sa.text(
                "INSERT INTO permissions (name, description) VALUES (:name, :description) "
                "ON CONFLICT (name) DO NOTHING"
            ),
            {"name": name, "description": description},
        )
    for role, (description, permissions) in ROLES.items():
        connection.execute(
            sa.text(
                "INSERT INTO roles (name, description) VALUES (:name, :description) "
                "ON CONFLICT (tenant_id, name) DO NOTHING"
            ),
            {"name": role, "description": description},
        )
        connection.execute(
            sa.text(
                "INSERT INTO role_permissions (role_id, permission) "
                "SELECT r.id, p.name FROM roles r JOIN permissions p ON p.name = ANY(:names) "
                "WHERE r.tenant_id IS NULL AND r.name = :role ON CONFLICT DO NOTHING"
            ),
            {"role": role, "names": list(permissions)},
        )


def downgrade() -> None:
    """Undo; users lose the platform's roles."""
    connection = op.get_bind()
    connection.execute(
        sa.text("DELETE FROM roles WHERE tenant_id IS NULL AND name = ANY(:names)"),
        {"names": list(ROLES)},
    )
    connection.execute(
        sa.text("DELETE FROM permissions WHERE name = ANY(:names)"),
        {"names": list(PERMISSIONS)},
    )
