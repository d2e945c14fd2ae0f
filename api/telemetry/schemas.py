"""Answers with measurements."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from api.schemas import Pagination, View

Aggregation = Literal["none", "1m", "5m", "1h", "1d"]


class Aggregate(View):
    """What one metric did within one bucket; null values do not count.

    Attributes:
        p95: 95th percentile.
        p95_estimated: It is estimated from narrower buckets; the other figures are always exact.
    """

    avg: float
    min: float
    max: float
    count: int
    last: float
    p95: float
    p95_estimated: bool


class SensorReading(View):
    """One message, or one bucket of time.

    Attributes:
        timestamp: Of the message, or the start of the bucket.
        metrics: Values; of a bucket, the averages.
        quality: Scores 0 to 100 of values that are not wholly good.
        aggregates: Of a bucket only.
    """

    timestamp: datetime
    metrics: dict[str, float | None]
    quality: dict[str, int] | None = None
    aggregates: dict[str, Aggregate] | None = None


class TimeRange(View):
    """A stretch of time; the end does not belong to it."""

    start: datetime
    end: datetime


class DeviceData(View):
    """Measurements of one device, oldest first."""

    device_id: UUID
    data: list[SensorReading]
    aggregation: Aggregation
    time_range: TimeRange
    next_cursor: str | None = Field(
        default=None, description="Ask for more with it; only without aggregation."
    )


class LatestValue(View):
    """The newest value of one metric."""

    value: float | None
    timestamp: datetime


class LatestView(View):
    """The newest value of every metric of one device."""

    device_id: UUID
    metrics: dict[str, LatestValue]


class DeadLetterView(View):
    """A message that could not be stored.

    Attributes:
        payload: As text; bytes that are no text are replaced.
        pointer: JSON pointer to the fault, "" for the whole message.
    """

    id: UUID
    received_at: datetime
    topic: str
    payload: str
    code: str
    pointer: str
    message: str


class DeadLetterList(View):
    """A page of dead letters; only the newest thousands of a device are kept.

    Attributes:
        dropped: How many older ones have been deleted.
    """

    dead_letters: list[DeadLetterView]
    dropped: int
    pagination: Pagination
