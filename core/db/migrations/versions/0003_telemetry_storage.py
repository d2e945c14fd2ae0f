"""Where measurements lie: a hypertable with TimescaleDB, daily partitions without; the view."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _timescale() -> bool:
    return bool(
        op.get_bind().scalar(
            sa.text("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'")
        )
    )


def upgrade() -> None:
    """Apply."""
    if _timescale():
        # A hypertable cannot start from a partitioned table, so it takes its place.
        op.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        op.execute("ALTER TABLE telemetry RENAME TO telemetry_plain")
        op.execute("CREATE TABLE telemetry (LIKE telemetry_plain INCLUDING DEFAULTS)")
        op.execute("DROP TABLE telemetry_plain")
        op.execute("ALTER TABLE telemetry ADD PRIMARY KEY (device_id, time, metrics_id)")
        op.execute("SELECT create_hypertable('telemetry', by_range('time', INTERVAL '1 day'))")
        op.execute("ALTER TABLE telemetry ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE telemetry FORCE ROW LEVEL SECURITY")
        op.execute(
            "CREATE POLICY tenant ON telemetry TO iotlinker_api, iotlinker_worker "
            "USING (metrics_id IN (SELECT id FROM metric_lists))"
        )
        op.execute("CREATE POLICY owner ON telemetry TO iotlinker_owner USING (true)")
        op.execute("GRANT SELECT ON telemetry TO iotlinker_api, iotlinker_worker")
        op.execute("GRANT INSERT ON telemetry TO iotlinker_ingest")
        body = "BEGIN END"  # TimescaleDB makes its chunks by itself
    else:
        op.execute("CREATE TABLE telemetry_pdefault PARTITION OF telemetry DEFAULT")
        # Only days of a window get a partition of their own, so that a device with a wrong clock
        # cannot make thousands; the rest lies in the default one.
        body = """
        DECLARE
            name text := 'telemetry_p' || to_char(day, 'YYYYMMDD');
        BEGIN
            IF day < current_date - 400 OR day > current_date + 2
               OR to_regclass('public.' || name) IS NOT NULL THEN
                RETURN;
            END IF;
            PERFORM pg_advisory_xact_lock(7104203);
            IF to_regclass('public.' || name) IS NULL THEN
                EXECUTE format(
                    'CREATE TABLE public.%I PARTITION OF public.telemetry '
                    'FOR VALUES FROM (%L) TO (%L)',
                    name, day::timestamp AT TIME ZONE 'UTC',
                    (day + 1)::timestamp AT TIME ZONE 'UTC');
            END IF;
        END"""
    op.execute(
        f"""
        CREATE FUNCTION ensure_telemetry_partition(day date) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$ {body} $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION ensure_telemetry_partition(date) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION ensure_telemetry_partition(date) TO iotlinker_ingest")
    op.execute(
        """
        CREATE VIEW device_data WITH (security_invoker = true) AS
        SELECT t.time, t.device_id, m.tenant_id, v.metric_name, v.value,
               '{}'::jsonb AS metadata,
               coalesce(t.quality[v.position], 100)::integer AS quality_score
        FROM telemetry t
        JOIN metric_lists m ON m.id = t.metrics_id
        CROSS JOIN LATERAL unnest(m.names, t.values)
            WITH ORDINALITY AS v (metric_name, value, position)
        """
    )
    op.execute("GRANT SELECT ON device_data TO iotlinker_api, iotlinker_worker")


def downgrade() -> None:
    """Undo; the measurements of the window go with their partitions."""
    op.execute("DROP VIEW device_data")
    op.execute("DROP FUNCTION ensure_telemetry_partition(date)")
    if not _timescale():
        op.execute(
            """
            DO $$ DECLARE partition regclass; BEGIN
                FOR partition IN
                    SELECT inhrelid::regclass FROM pg_inherits
                    WHERE inhparent = 'telemetry'::regclass
                LOOP EXECUTE 'DROP TABLE ' || partition; END LOOP;
            END $$
            """
        )
