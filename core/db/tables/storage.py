"""Sealed measurements, and how long each tenant keeps what."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from core.db.columns import UUID, Instant, Table, moment


class SealedTelemetry(Table, table=True):
    """Many rows of one device, metric list and day in one; `core.blocks` says how.

    The function `telemetry_unseal` gives the rows back.
    """

    __tablename__ = "telemetry_sealed"

    device_id: UUID = Field(primary_key=True)
    first: Instant = Field(
        default=None,
        sa_type=sa.DateTime(timezone=True),
        primary_key=True,
        sa_column_kwargs={"nullable": False},
    )
    metrics_id: int = Field(primary_key=True)
    last: Instant = Field(
        default=None, sa_type=sa.DateTime(timezone=True), sa_column_kwargs={"nullable": False}
    )
    count: int
    step: int = Field(sa_type=sa.BigInteger)
    tick: int
    kinds: list[int] = Field(sa_type=ARRAY(sa.SmallInteger), sa_column_kwargs={"nullable": False})
    bases: list[int] = Field(sa_type=ARRAY(sa.BigInteger), sa_column_kwargs={"nullable": False})
    scales: list[float] = Field(sa_type=ARRAY(sa.Double), sa_column_kwargs={"nullable": False})
    jitter_small: list[int] | None = Field(default=None, sa_type=ARRAY(sa.SmallInteger))
    jitter_wide: list[int] | None = Field(default=None, sa_type=ARRAY(sa.Integer))
    small: list[int | None] | None = Field(default=None, sa_type=ARRAY(sa.SmallInteger))
    wide: list[int | None] | None = Field(default=None, sa_type=ARRAY(sa.Integer))
    raw: list[float | None] | None = Field(default=None, sa_type=ARRAY(sa.Double))
    quality: list[int | None] | None = Field(default=None, sa_type=ARRAY(sa.SmallInteger))


class StoragePolicy(Table, table=True):
    """How many days a tenant keeps measurements and each width of roll-ups; None is for ever.

    Attributes:
        seal_after_days: Age at which days are sealed; None is never.
    """

    __tablename__ = "storage_policies"

    tenant_id: UUID = Field(foreign_key="tenants.id", ondelete="CASCADE", primary_key=True)
    raw_days: int | None = None
    minute_days: int | None = None
    five_minute_days: int | None = None
    hour_days: int | None = None
    day_days: int | None = None
    seal_after_days: int | None = Field(
        default=7, sa_column_kwargs={"server_default": sa.text("7")}
    )
    updated_at: Instant = moment(now=True)
