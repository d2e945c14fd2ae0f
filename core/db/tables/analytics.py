"""What was found and what is expected."""

import sqlalchemy as sa
from sqlmodel import Field

from core.db.columns import (
    UUID,
    Document,
    Instant,
    Table,
    document,
    moment,
    reference,
    tenant_key,
    uuid_key,
)


class Anomaly(Table, table=True):
    """A measurement, or a stretch of them, unlike the usual."""

    __tablename__ = "anomalies"
    __table_args__ = (sa.Index("ix_anomalies_device_time", "device_id", "time"),)

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    device_id: UUID = reference("devices.id", index=False)
    metric_name: str = Field(max_length=100)
    time: Instant = moment(now=True)
    score: float
    kind: str = Field(max_length=50)
    details: Document = document()


class Prediction(Table, table=True):
    """One answer of a model."""

    __tablename__ = "predictions"
    __table_args__ = (sa.Index("ix_predictions_device_time", "device_id", "time"),)

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    device_id: UUID = reference("devices.id", index=False)
    time: Instant = moment(now=True)
    prediction_type: str = Field(max_length=50)
    probability: float
    confidence: float
    time_to_event: float | None = None
    details: Document = document()
    model_name: str = Field(max_length=255)
    model_version: str = Field(max_length=50)
