"""Roll-ups: what each metric did in every minute, five minutes, hour and day (UTC)."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from core.db.columns import UUID, Instant, Table


class Rollup(Table):
    """One bucket of one device and metric list; arrays in the order of the list.

    Attributes:
        bucket: Start of the bucket, a whole multiple of its width in UTC.
        counts: Values that were not null.
        mins, maxs, sums, lasts: Of those; null where the count is 0.
        p95s: 95th percentile: exact in `rollup_1m`, estimated in the wider ones.
        newest: Time of the newest message; tells which list has the last value of a metric.
    """

    device_id: UUID = Field(primary_key=True)
    bucket: Instant = Field(
        default=None,
        sa_type=sa.DateTime(timezone=True),
        primary_key=True,
        sa_column_kwargs={"nullable": False},
    )
    metrics_id: int = Field(primary_key=True)
    counts: list[int] = Field(sa_type=ARRAY(sa.Integer), sa_column_kwargs={"nullable": False})
    mins: list[float | None] = Field(sa_type=ARRAY(sa.Double), sa_column_kwargs={"nullable": False})
    maxs: list[float | None] = Field(sa_type=ARRAY(sa.Double), sa_column_kwargs={"nullable": False})
    sums: list[float | None] = Field(sa_type=ARRAY(sa.Double), sa_column_kwargs={"nullable": False})
    lasts: list[float | None] = Field(
        sa_type=ARRAY(sa.Double), sa_column_kwargs={"nullable": False}
    )
    p95s: list[float | None] = Field(sa_type=ARRAY(sa.Double), sa_column_kwargs={"nullable": False})
    newest: Instant = Field(
        default=None, sa_type=sa.DateTime(timezone=True), sa_column_kwargs={"nullable": False}
    )


class MinuteRollup(Rollup, table=True):
    """Buckets of a minute, from the measurements themselves."""

    __tablename__ = "rollup_1m"
    __table_args__ = (
        sa.Index("ix_rollup_1m_bucket", "bucket", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (bucket)"},
    )


class FiveMinuteRollup(Rollup, table=True):
    """Buckets of five minutes, from those of a minute."""

    __tablename__ = "rollup_5m"
    __table_args__ = (
        sa.Index("ix_rollup_5m_bucket", "bucket", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (bucket)"},
    )


class HourRollup(Rollup, table=True):
    """Buckets of an hour, from those of five minutes."""

    __tablename__ = "rollup_1h"
    __table_args__ = (sa.Index("ix_rollup_1h_bucket", "bucket", postgresql_using="brin"),)


class DayRollup(Rollup, table=True):
    """Buckets of a day, from those of an hour."""

    __tablename__ = "rollup_1d"
    __table_args__ = (sa.Index("ix_rollup_1d_bucket", "bucket", postgresql_using="brin"),)


class StaleHour(Table, table=True):
    """An hour of a device that got measurements after it may have been rolled up.

    Written by whoever stores such measurements, in the same transaction. The same hour may occur
    many times. No foreign keys: ingest must not wait for a device that is being deleted.
    """

    __tablename__ = "rollup_stale"
    __table_args__ = (sa.Index("ix_rollup_stale_device", "device_id", "hour"),)

    id: int | None = Field(
        default=None,
        sa_column=sa.Column(sa.BigInteger, sa.Identity(always=True), primary_key=True),
    )
    tenant_id: UUID
    device_id: UUID
    hour: Instant = Field(
        default=None, sa_type=sa.DateTime(timezone=True), sa_column_kwargs={"nullable": False}
    )


class RollupProgress(Table, table=True):
    """The watermark, one row: buckets that end by then are rolled up."""

    __tablename__ = "rollup_progress"
    __table_args__ = (sa.CheckConstraint("id", name="ck_rollup_progress_one_row"),)

    id: bool = Field(default=True, primary_key=True, sa_column_kwargs={"server_default": sa.true()})
    until: Instant = Field(
        default=None, sa_type=sa.DateTime(timezone=True), sa_column_kwargs={"nullable": False}
    )
