"""The API answers for devices at another broker: it finds one by its key, before any tenant."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(
        """
        CREATE FUNCTION auth_device_by_key(wanted bytea)
        RETURNS TABLE (device_id uuid, usable boolean, expires_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
            SELECT d.id,
                   c.revoked_at IS NULL AND t.active
                   AND d.lifecycle NOT IN ('decommissioned', 'expired'),
                   c.expires_at
            FROM device_credentials c
            JOIN devices d ON d.id = c.device_id
            JOIN tenants t ON t.id = d.tenant_id
            WHERE c.key_sha256 = wanted
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION auth_device_by_key(bytea) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION auth_device_by_key(bytea) TO iotlinker_api")


def downgrade() -> None:
    """Undo."""
    op.execute("DROP FUNCTION auth_device_by_key(bytea)")
