"""Old measurements in blocks, how long each tenant keeps what, and partitions made late."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_PARTITION = """
CREATE OR REPLACE FUNCTION ensure_telemetry_partition(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    name text := 'telemetry_p' || to_char(day, 'YYYYMMDD');
    first timestamptz := day::timestamp AT TIME ZONE 'UTC';
    after timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF day < current_date - 400 OR day > current_date + 2
       OR to_regclass('public.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(7104203);
    IF to_regclass('public.' || name) IS NULL THEN
        {body}
    END IF;
END $$
"""
_CREATE = (
    "EXECUTE format('CREATE TABLE public.%I PARTITION OF public.telemetry "
    "FOR VALUES FROM (%L) TO (%L)', name, first, after);"
)
# Rows of a day that came before its partition lie in the default one, and would forbid it.
_CREATE_AND_MOVE = """
        LOCK TABLE telemetry_pdefault IN SHARE ROW EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE public.%I (LIKE public.telemetry INCLUDING ALL)', name);
        EXECUTE format(
            'WITH moved AS (DELETE FROM public.telemetry_pdefault '
            'WHERE time >= %L AND time < %L RETURNING *) '
            'INSERT INTO public.%I SELECT * FROM moved', first, after, name);
        EXECUTE format(
            'ALTER TABLE public.telemetry ATTACH PARTITION public.%I '
            'FOR VALUES FROM (%L) TO (%L)', name, first, after);
"""

_SEALED_ROWS = """
    UNION ALL
    SELECT u.at, s.device_id, s.metrics_id, u.numbers, u.scores
    FROM telemetry_sealed s CROSS JOIN LATERAL telemetry_unseal(s, '-infinity', 'infinity') u
"""
_VIEW = """
CREATE OR REPLACE VIEW device_data WITH (security_invoker = true) AS
SELECT t.time, t.device_id, m.tenant_id, v.metric_name, v.value,
       '{{}}'::jsonb AS metadata,
       coalesce(t.quality[v.position], 100)::integer AS quality_score
FROM (
    SELECT time, device_id, metrics_id, values, quality FROM telemetry {sealed}
) AS t
JOIN metric_lists m ON m.id = t.metrics_id
CROSS JOIN LATERAL unnest(m.names, t.values) WITH ORDINALITY AS v (metric_name, value, position)
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "telemetry_sealed",
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("first", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metrics_id", sa.Integer(), nullable=False),
        sa.Column("last", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("tick", sa.Integer(), nullable=False),
        sa.Column("kinds", postgresql.ARRAY(sa.SmallInteger()), nullable=False),
        sa.Column("bases", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("scales", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("jitter_small", postgresql.ARRAY(sa.SmallInteger()), nullable=True),
        sa.Column("jitter_wide", postgresql.ARRAY(sa.Integer()), nullable=True),
        sa.Column("small", postgresql.ARRAY(sa.SmallInteger()), nullable=True),
        sa.Column("wide", postgresql.ARRAY(sa.Integer()), nullable=True),
        sa.Column("raw", postgresql.ARRAY(sa.Double()), nullable=True),
        sa.Column("quality", postgresql.ARRAY(sa.SmallInteger()), nullable=True),
        sa.PrimaryKeyConstraint("device_id", "first", "metrics_id"),
    )
    op.execute("ALTER TABLE telemetry_sealed ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE telemetry_sealed FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant ON telemetry_sealed TO iotlinker_api, iotlinker_worker "
        "USING (metrics_id IN (SELECT id FROM metric_lists))"
    )
    op.execute(
        "CREATE POLICY owner ON telemetry_sealed TO iotlinker_owner USING (true) WITH CHECK (true)"
    )
    op.execute("GRANT SELECT ON telemetry_sealed TO iotlinker_api, iotlinker_worker")
    op.execute(
        """
        CREATE FUNCTION telemetry_unseal(
            block telemetry_sealed, since timestamptz, till timestamptz
        ) RETURNS TABLE (at timestamptz, numbers float8[], scores smallint[])
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE ROWS 1000 AS $$
        DECLARE
            rows CONSTANT int := block.count;
            metrics CONSTANT int := cardinality(block.kinds);
            kinds CONSTANT int2[] := block.kinds;
            bases CONSTANT int8[] := block.bases;
            scales CONSTANT float8[] := block.scales;
            small CONSTANT int2[] := block.small;
            wide CONSTANT int4[] := block.wide;
            raw CONSTANT float8[] := block.raw;
            quality CONSTANT int2[] := block.quality;
            jitter CONSTANT int4[] := coalesce(block.jitter_wide, block.jitter_small::int4[]);
            first CONSTANT timestamptz := block.first;
            step CONSTANT float8 := block.step / 1e6;
            tick CONSTANT float8 := block.tick / 1e6;
            sums int8[] := block.bases;
            step_of int4;
            starts int[];  -- where each metric's values begin in the array of its kind
            n_small int := 0;
            n_wide int := 0;
            n_raw int := 0;
        BEGIN
            FOR j IN 1..metrics LOOP
                CASE kinds[j]
                    WHEN 2 THEN starts[j] := n_small; n_small := n_small + rows;
                    WHEN 4 THEN starts[j] := n_wide; n_wide := n_wide + rows;
                    WHEN 8 THEN starts[j] := n_raw; n_raw := n_raw + rows;
                    ELSE starts[j] := 0;
                END CASE;
            END LOOP;
            IF metrics = 1 AND kinds[1] = 2 AND quality IS NULL THEN  -- four times faster
                RETURN QUERY
                SELECT u.instant, ARRAY[u.value], NULL::int2[]
                FROM (
                    SELECT first + make_interval(secs => (s.row - 1) * step)
                           + make_interval(secs => coalesce(s.late, 0) * tick) AS instant,
                           CASE WHEN s.value IS NOT NULL THEN
                               (bases[1] + sum(s.value) OVER (ORDER BY s.row))::float8 / scales[1]
                           END AS value
                    FROM unnest(small, jitter) WITH ORDINALITY AS s (value, late, row)
                ) AS u
                WHERE u.instant >= since AND u.instant < till;
                RETURN;
            END IF;
            FOR i IN 1..rows LOOP
                at := first + make_interval(secs => (i - 1) * step);
                IF jitter IS NOT NULL THEN
                    at := at + make_interval(secs => jitter[i] * tick);
                END IF;
                EXIT WHEN at >= till;
                numbers := NULL;
                FOR j IN 1..metrics LOOP
                    IF kinds[j] = 2 THEN
                        step_of := small[starts[j] + i];
                    ELSIF kinds[j] = 4 THEN
                        step_of := wide[starts[j] + i];
                    ELSIF kinds[j] = 8 THEN
                        numbers[j] := raw[starts[j] + i];
                        CONTINUE;
                    ELSE
                        step_of := 0;
                    END IF;
                    IF step_of IS NULL THEN
                        numbers[j] := NULL;
                    ELSE
                        sums[j] := sums[j] + step_of;
                        numbers[j] := sums[j]::float8 / scales[j];
                    END IF;
                END LOOP;
                CONTINUE WHEN at < since;
                IF quality IS NOT NULL THEN
                    scores := quality[(i - 1) * metrics + 1 : i * metrics];
                    IF scores[1] IS NULL THEN
                        scores := NULL;
                    END IF;
                END IF;
                RETURN NEXT;
            END LOOP;
        END $$
        """
    )
    # What ingest may know of blocks: which times they hold, so that nothing is stored twice.
    op.execute(
        """
        CREATE FUNCTION telemetry_sealed_times(
            wanted uuid, list int, since timestamptz, till timestamptz
        ) RETURNS SETOF timestamptz
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
            SELECT u.at
            FROM telemetry_sealed s
            CROSS JOIN LATERAL telemetry_unseal(s, since, till) u
            WHERE s.device_id = wanted AND s.metrics_id = list AND s.first < till
              AND s.first >= since - INTERVAL '1 day' AND s.last >= since
        $$
        """
    )
    op.execute(
        "REVOKE ALL ON FUNCTION telemetry_sealed_times(uuid, int, timestamptz, timestamptz) "
        "FROM PUBLIC"
    )
    op.execute(
        "GRANT EXECUTE ON FUNCTION telemetry_sealed_times(uuid, int, timestamptz, timestamptz) "
        "TO iotlinker_ingest"
    )
    op.execute(_VIEW.format(sealed=_SEALED_ROWS))
    if not _timescale():  # TimescaleDB makes its chunks by itself
        op.execute(_PARTITION.format(body=_CREATE_AND_MOVE))

    op.create_table(
        "storage_policies",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=True)
            for name in ("raw_days", "minute_days", "five_minute_days", "hour_days", "day_days")
        ),
        sa.Column("seal_after_days", sa.Integer(), server_default=sa.text("7"), nullable=True),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id"),
    )
    op.execute("ALTER TABLE storage_policies ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE storage_policies FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant ON storage_policies TO iotlinker_api, iotlinker_worker "
        "USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())"
    )
    op.execute("CREATE POLICY owner ON storage_policies TO iotlinker_owner USING (true)")
    op.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON storage_policies "
        "TO iotlinker_api, iotlinker_worker"
    )
    connection = op.get_bind()
    connection.execute(
        sa.text(
            "INSERT INTO permissions (name, description) VALUES "
            "('telemetry:manage', 'Decide how long measurements are kept') ON CONFLICT DO NOTHING"
        )
    )
    connection.execute(
        sa.text(
            "INSERT INTO role_permissions (role_id, permission) "
            "SELECT id, 'telemetry:manage' FROM roles "
            "WHERE tenant_id IS NULL AND name IN ('super_admin', 'tenant_admin') "
            "ON CONFLICT DO NOTHING"
        )
    )


def _timescale() -> bool:
    return bool(
        op.get_bind().scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"))
    )


def downgrade() -> None:
    """Undo; what is sealed is written back as rows first."""
    op.execute("DELETE FROM role_permissions WHERE permission = 'telemetry:manage'")
    op.execute("DELETE FROM permissions WHERE name = 'telemetry:manage'")
    op.drop_table("storage_policies")
    op.execute(
        "INSERT INTO telemetry (device_id, time, metrics_id, values, quality) "
        "SELECT s.device_id, u.at, s.metrics_id, u.numbers, u.scores "
        "FROM telemetry_sealed s "
        "CROSS JOIN LATERAL telemetry_unseal(s, '-infinity', 'infinity') u "
        "ON CONFLICT DO NOTHING"
    )
    if not _timescale():
        op.execute(_PARTITION.format(body=_CREATE))
    op.execute(_VIEW.format(sealed=""))
    op.execute("DROP FUNCTION telemetry_sealed_times(uuid, int, timestamptz, timestamptz)")
    op.execute("DROP FUNCTION telemetry_unseal(telemetry_sealed, timestamptz, timestamptz)")
    op.drop_table("telemetry_sealed")
