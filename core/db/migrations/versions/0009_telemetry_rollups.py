"""Roll-ups of the measurements, what they do not know yet, and an index to find new rows by."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LEVELS = ("rollup_1m", "rollup_5m", "rollup_1h", "rollup_1d")
# The finer ones hold most rows: a partition a day, so that retention drops them whole.
BY_DAY = LEVELS[:2]


def upgrade() -> None:
    """Apply; what is stored already is rolled up by the maintenance worker."""
    for level in LEVELS:
        op.create_table(
            level,
            sa.Column("device_id", sa.Uuid(), nullable=False),
            sa.Column("bucket", sa.DateTime(timezone=True), nullable=False),
            sa.Column("metrics_id", sa.Integer(), nullable=False),
            sa.Column("counts", postgresql.ARRAY(sa.Integer()), nullable=False),
            *(
                sa.Column(name, postgresql.ARRAY(sa.Double()), nullable=False)
                for name in ("mins", "maxs", "sums", "lasts", "p95s")
            ),
            sa.Column("newest", sa.DateTime(timezone=True), nullable=False),
            sa.PrimaryKeyConstraint("device_id", "bucket", "metrics_id"),
            postgresql_partition_by="RANGE (bucket)" if level in BY_DAY else None,
        )
        op.execute(f"CREATE INDEX ix_{level}_bucket ON {level} USING brin (bucket)")
        op.execute(f"ALTER TABLE {level} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {level} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant ON {level} TO iotlinker_api, iotlinker_worker "
            "USING (metrics_id IN (SELECT id FROM metric_lists))"
        )
        op.execute(
            f"CREATE POLICY owner ON {level} TO iotlinker_owner USING (true) WITH CHECK (true)"
        )
        op.execute(f"GRANT SELECT ON {level} TO iotlinker_api, iotlinker_worker")
    for level in BY_DAY:
        op.execute(f"CREATE TABLE {level}_pdefault PARTITION OF {level} DEFAULT")

    op.create_table(
        "rollup_stale",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_rollup_stale_device", "rollup_stale", ["device_id", "hour"])
    op.execute("ALTER TABLE rollup_stale ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE rollup_stale FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant ON rollup_stale TO iotlinker_api, iotlinker_worker "
        "USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())"
    )
    op.execute("CREATE POLICY owner ON rollup_stale TO iotlinker_owner USING (true)")
    op.execute("GRANT SELECT, INSERT ON rollup_stale TO iotlinker_api, iotlinker_worker")
    op.execute("GRANT INSERT ON rollup_stale TO iotlinker_ingest")

    op.create_table(
        "rollup_progress",
        sa.Column("id", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("id", name="ck_rollup_progress_one_row"),
    )
    op.execute("GRANT SELECT ON rollup_progress TO iotlinker_api, iotlinker_worker")
    op.execute(
        "INSERT INTO rollup_progress (until) "
        "VALUES (date_bin('1 day', now() - INTERVAL '10 minutes', '2000-01-01 00:00:00Z'))"
    )
    op.execute(
        "INSERT INTO rollup_stale (tenant_id, device_id, hour) "
        "SELECT DISTINCT m.tenant_id, t.device_id, "
        "       date_bin('1 hour', t.time, '2000-01-01 00:00:00Z') "
        "FROM telemetry t JOIN metric_lists m ON m.id = t.metrics_id, rollup_progress p "
        "WHERE t.time < p.until"
    )
    op.execute(
        """
        CREATE FUNCTION ensure_rollup_partitions(day date) RETURNS void
        LANGUAGE plpgsql SET search_path = public AS $$
        DECLARE
            level text;
            name text;
        BEGIN
            IF day < current_date - 400 OR day > current_date + 2 THEN
                RETURN;
            END IF;
            FOREACH level IN ARRAY ARRAY['rollup_1m', 'rollup_5m'] LOOP
                name := level || '_p' || to_char(day, 'YYYYMMDD');
                IF to_regclass('public.' || name) IS NULL THEN
                    EXECUTE format(
                        'CREATE TABLE public.%I PARTITION OF public.%I '
                        'FOR VALUES FROM (%L) TO (%L)',
                        name, level, day::timestamp AT TIME ZONE 'UTC',
                        (day + 1)::timestamp AT TIME ZONE 'UTC');
                END IF;
            END LOOP;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION ensure_rollup_partitions(date) FROM PUBLIC")
    # Rows arrive in the order of time, nearly: a few bytes a thousand rows find the newest.
    op.execute("CREATE INDEX ix_telemetry_time ON telemetry USING brin (time)")


def downgrade() -> None:
    """Undo; the measurements themselves stay."""
    op.execute("DROP INDEX ix_telemetry_time")
    op.execute("DROP FUNCTION ensure_rollup_partitions(date)")
    for table in ("rollup_progress", "rollup_stale", *LEVELS[::-1]):
        op.drop_table(table)
