"""Measurements: a row per message (see docs/architecture.md for the figures behind it)."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from core.db.columns import UUID, Instant, Table, moment, reference, tenant_key, uuid_key


class MetricList(Table, table=True):
    """An ordered list of metric names, stored once per tenant.

    A telemetry row names its list and so its tenant: the policy of `telemetry` rests on this
    table, which saves 16 bytes in every measurement.
    """

    __tablename__ = "metric_lists"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "names"),)

    id: int | None = Field(
        default=None,
        sa_column=sa.Column(sa.Integer, sa.Identity(always=True), primary_key=True),
    )
    tenant_id: UUID = tenant_key()
    names: list[str] = Field(sa_type=ARRAY(sa.Text), sa_column_kwargs={"nullable": False})


class Telemetry(Table, table=True):
    """One message of one device.

    Attributes:
        values: In the order of the metric list; booleans as 0 and 1; null where a metric was null.
        quality: Score 0 to 100 per value; null means all 100.
    """

    __tablename__ = "telemetry"
    __table_args__ = (
        sa.Index("ix_telemetry_time", "time", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (time)"},
    )

    # The unique index (device_id, time, metrics_id) is in the migration; the mapper needs a key.
    device_id: UUID = Field(primary_key=True)
    time: Instant = Field(
        sa_column=sa.Column(sa.DateTime(timezone=True), primary_key=True, nullable=False)
    )
    metrics_id: int = Field(primary_key=True)
    values: list[float | None] = Field(
        sa_type=ARRAY(sa.Double),
        sa_column_kwargs={"nullable": False},
    )
    quality: list[int] | None = Field(default=None, sa_type=ARRAY(sa.SmallInteger))


class LatestTelemetry(Table, table=True):
    """The newest row of a device and metric list, so that nobody scans for it."""

    __tablename__ = "telemetry_latest"

    device_id: UUID = Field(foreign_key="devices.id", ondelete="CASCADE", primary_key=True)
    metrics_id: int = Field(foreign_key="metric_lists.id", ondelete="CASCADE", primary_key=True)
    tenant_id: UUID = tenant_key()
    time: Instant = moment(now=True)
    values: list[float | None] = Field(
        sa_type=ARRAY(sa.Double),
        sa_column_kwargs={"nullable": False},
    )


class DeadLetter(Table, table=True):
    """A message that could not be stored as telemetry, with the reason.

    Attributes:
        replayed_at, replayed_by: When it was stored after all, and who saw to it.
    """

    __tablename__ = "telemetry_dead_letters"
    __table_args__ = (
        sa.Index("ix_dead_letters_device", "tenant_id", "device_id", "received_at"),
        sa.Index("ix_dead_letters_time", "tenant_id", "received_at"),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    device_id: UUID = reference("devices.id", index=False)
    received_at: Instant = moment(now=True)
    topic: str
    payload: bytes = Field(sa_type=sa.LargeBinary)
    code: str = Field(max_length=50)
    pointer: str = Field(default="", max_length=500)
    message: str = Field(max_length=1000)
    replayed_at: Instant = moment()
    replayed_by: UUID | None = reference(
        "users.id", ondelete="SET NULL", index=False, nullable=True, default=None
    )
