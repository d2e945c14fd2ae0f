"""Row-level security, grants of the roles, and the few functions that look across tenants."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TENANT_TABLES = (
    "alert_instances",
    "alerts",
    "anomalies",
    "audit_log",
    "device_attributes",
    "device_commands",
    "device_credentials",
    "device_events",
    "device_profiles",
    "devices",
    "metric_lists",
    "notification_channels",
    "predictions",
    "telemetry_dead_letters",
    "telemetry_latest",
    "trigger_outbox",
    "trigger_states",
    "user_roles",
    "user_sessions",
    "users",
    "webhook_attempts",
    "webhook_deliveries",
    "webhooks",
    "workflow_executions",
    "workflow_step_runs",
    "workflow_versions",
    "workflows",
)

# Tables whose tenant follows from something else than a tenant_id of their own.
OTHER_POLICIES = {
    "tenants": "id = current_tenant()",
    "organizations": "id IN (SELECT organization_id FROM tenants)",
    "roles": "tenant_id IS NULL OR tenant_id = current_tenant()",
    "role_permissions": "role_id IN (SELECT id FROM roles)",
    "telemetry": "metrics_id IN (SELECT id FROM metric_lists)",
}
# The platform's own roles are seen by every tenant and changed by none.
OTHER_CHECKS = {
    "roles": "tenant_id = current_tenant()",
    "role_permissions": (
        "role_id IN (SELECT id FROM roles WHERE roles.tenant_id = current_tenant())"
    ),
}

INGEST_GRANTS = (
    "SELECT ON devices, device_credentials, device_profiles, device_attributes, device_commands,"
    " metric_lists, telemetry_latest, trigger_states, trigger_outbox, workflows,"
    " workflow_versions, tenants",
    "INSERT ON telemetry, telemetry_latest, telemetry_dead_letters, metric_lists, trigger_outbox,"
    " trigger_states, device_events, device_attributes, anomalies",
    "UPDATE ON telemetry_latest, trigger_states",
    "UPDATE (status, last_seen, connected_at, updated_at) ON devices",
    "UPDATE (reported, reported_version, reported_at) ON device_attributes",
    "UPDATE (status, response, sent_at, answered_at) ON device_commands",
    "DELETE ON trigger_states",
)


def upgrade() -> None:
    """Apply."""
    op.execute(
        "CREATE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS "
        "$$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$"
    )
    policies = dict.fromkeys(TENANT_TABLES, "tenant_id = current_tenant()") | OTHER_POLICIES
    for table, rule in policies.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        check = OTHER_CHECKS.get(table, rule)
        if check == rule:
            op.execute(
                f"CREATE POLICY tenant ON {table} TO iotlinker_api, iotlinker_worker "
                f"USING ({rule}) WITH CHECK ({check})"
            )
        else:
            op.execute(
                f"CREATE POLICY tenant_read ON {table} FOR SELECT "
                f"TO iotlinker_api, iotlinker_worker USING ({rule})"
            )
            op.execute(
                f"CREATE POLICY tenant_write ON {table} "
                f"TO iotlinker_api, iotlinker_worker USING ({check}) WITH CHECK ({check})"
            )
        op.execute(
            f"CREATE POLICY owner ON {table} TO iotlinker_owner USING (true) WITH CHECK (true)"
        )
    # The relay tells Temporal of every tenant's events.
    op.execute(
        "CREATE POLICY relay ON trigger_outbox TO iotlinker_worker "
        "USING (true) WITH CHECK (tenant_id = current_tenant() OR done_at IS NOT NULL "
        "OR attempts > 0)"
    )

    op.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public "
        "TO iotlinker_api, iotlinker_worker"
    )
    op.execute(
        "REVOKE INSERT, UPDATE, DELETE ON permissions, organizations "
        "FROM iotlinker_api, iotlinker_worker"
    )
    op.execute("REVOKE UPDATE, DELETE ON audit_log FROM iotlinker_api, iotlinker_worker")
    op.execute("REVOKE INSERT, DELETE ON tenants FROM iotlinker_api, iotlinker_worker")
    op.execute("REVOKE UPDATE, DELETE ON workflow_versions FROM iotlinker_api, iotlinker_worker")
    op.execute("REVOKE INSERT, UPDATE, DELETE ON telemetry FROM iotlinker_api, iotlinker_worker")
    op.execute("REVOKE ALL ON alembic_version FROM iotlinker_api, iotlinker_worker")
    op.execute("GRANT SELECT ON alembic_version TO iotlinker_api, iotlinker_worker")
    for grant in INGEST_GRANTS:
        op.execute(f"GRANT {grant} TO iotlinker_ingest")

    # Before anybody is signed in there is no tenant; these answer one question each.
    op.execute(
        """
        CREATE FUNCTION auth_user_by_email(wanted text)
        RETURNS TABLE (user_id uuid, tenant_id uuid, organization_id uuid,
                       encrypted_password varchar, active boolean)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
            SELECT u.id, u.tenant_id, t.organization_id, u.encrypted_password,
                   u.active AND t.active
            FROM users u JOIN tenants t ON t.id = u.tenant_id
            WHERE u.email = lower(wanted)
        $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION auth_session_tenant(wanted uuid) RETURNS uuid
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
            SELECT tenant_id FROM user_sessions WHERE id = wanted
        $$
        """
    )
    for function in ("auth_user_by_email(text)", "auth_session_tenant(uuid)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO iotlinker_api")


def downgrade() -> None:
    """Undo."""
    op.execute("DROP FUNCTION auth_session_tenant(uuid)")
    op.execute("DROP FUNCTION auth_user_by_email(text)")
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM iotlinker_api, iotlinker_worker")
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM iotlinker_ingest")
    op.execute("DROP POLICY relay ON trigger_outbox")
    for table in (*TENANT_TABLES, *OTHER_POLICIES):
        for policy in ("tenant", "tenant_read", "tenant_write", "owner"):
            op.execute(f"DROP POLICY IF EXISTS {policy} ON {table}")
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("DROP FUNCTION current_tenant()")
