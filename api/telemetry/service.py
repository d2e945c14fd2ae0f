"""Measurements, as people read them."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from api.deps import Page
from api.devices.service import found
from api.schemas import Pagination
from api.telemetry.schemas import (
    Aggregation,
    DeadLetterList,
    DeadLetterView,
    LatestValue,
    LatestView,
)
from api.work import Work
from core.db.repositories import telemetry, telemetry_buckets, telemetry_rows
from core.db.repositories.telemetry_rows import Message
from core.errors import FieldError, InvalidInputError

_WIDTHS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
MAX_BUCKETS = 10_000
_MAX_ROWS = 200_000  # buckets times metrics
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def data(
    work: Work,
    device_id: UUID,
    *,
    start: datetime,
    end: datetime,
    metrics: list[str] | None,
    aggregation: Aggregation,
    limit: int,
    cursor: str | None,
) -> dict[str, Any]:
    """Return measurements in the form of `DeviceData`, ready to be encoded.

    Raises:
        NotFoundError: There is no such device.
        InvalidInputError: The range is empty or too long, or the cursor is not one of ours.
    """
    if end <= start:
        raise InvalidInputError(
            "The time range is empty.",
            errors=(FieldError("", "end_time must be later than start_time."),),
        )
    await found(work, device_id)
    answer: dict[str, Any] = {
        "device_id": device_id,
        "aggregation": aggregation,
        "time_range": {"start": start, "end": end},
        "next_cursor": None,
    }
    if aggregation == "none":
        rows = await telemetry_rows.messages(
            work.session,
            device_id,
            start=start,
            until=end,
            metrics=metrics,
            after=None if cursor is None else _read_cursor(cursor),
            limit=limit + 1,
        )
        if len(rows) > limit:
            rows.pop()
            answer["next_cursor"] = _cursor(rows[-1])
        wanted = None if metrics is None else frozenset(metrics)
        answer["data"] = [_reading(row, wanted) for row in rows]
        return answer
    answer["data"] = await _aggregated(
        work, device_id, start=start, end=end, metrics=metrics, width=_WIDTHS[aggregation]
    )
    return answer


async def _aggregated(
    work: Work,
    device_id: UUID,
    *,
    start: datetime,
    end: datetime,
    metrics: list[str] | None,
    width: timedelta,
) -> list[dict[str, Any]]:
    if (end - start) / width > MAX_BUCKETS:
        raise InvalidInputError(
            "The time range is too long for this aggregation.",
            errors=(
                FieldError(
                    "",
                    f"It would have more than {MAX_BUCKETS} buckets.",
                    "Ask for a wider aggregation or a shorter range.",
                ),
            ),
        )
    buckets = await telemetry_buckets.buckets(
        work.session,
        device_id,
        start=start,
        until=end,
        width=width,
        metrics=metrics,
        limit=_MAX_ROWS + 1,
    )
    if len(buckets) > _MAX_ROWS:
        raise InvalidInputError(
            "The answer would be too long: ask for fewer metrics or a shorter range."
        )
    readings: list[dict[str, Any]] = []
    for bucket in buckets:
        if not readings or readings[-1]["timestamp"] != bucket.time:
            readings.append({"timestamp": bucket.time, "metrics": {}, "aggregates": {}})
        readings[-1]["metrics"][bucket.metric] = bucket.avg
        readings[-1]["aggregates"][bucket.metric] = {
            "avg": bucket.avg,
            "min": bucket.min,
            "max": bucket.max,
            "count": bucket.count,
            "last": bucket.last,
            "p95": bucket.p95,
            "p95_estimated": not bucket.p95_exact,
        }
    return readings


def _reading(message: Message, wanted: frozenset[str] | None) -> dict[str, Any]:
    reading: dict[str, Any] = {
        "timestamp": message.time,
        "metrics": {
            name: value
            for name, value in zip(message.names, message.values, strict=False)
            if wanted is None or name in wanted
        },
    }
    if message.quality is not None:
        doubtful = {
            name: score
            for name, score in zip(message.names, message.quality, strict=False)
            if score != 100 and name in reading["metrics"]
        }
        if doubtful:
            reading["quality"] = doubtful
    return reading


def _cursor(message: Message) -> str:
    at = (message.time - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{at}:{message.metrics_id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    try:
        at, metrics_id = base64.urlsafe_b64decode(cursor).decode().split(":")
        return _EPOCH + timedelta(microseconds=int(at)), int(metrics_id) % 2**31
    except (binascii.Error, ValueError, OverflowError) as error:
        raise InvalidInputError(
            "The cursor is not one of ours.",
            errors=(FieldError("", "cursor must be a next_cursor of an earlier answer."),),
        ) from error


async def latest(work: Work, device_id: UUID) -> LatestView:
    """Return the newest value of every metric.

    Raises:
        NotFoundError: There is no such device.
    """
    await found(work, device_id)
    rows = await telemetry.latest(work.session, device_id)
    return LatestView(
        device_id=device_id,
        metrics={row.metric: LatestValue(value=row.value, timestamp=row.time) for row in rows},
    )


async def dead_letters(work: Work, device_id: UUID, place: Page) -> DeadLetterList:
    """Return a page of what could not be stored.

    Raises:
        NotFoundError: There is no such device.
    """
    device, _ = await found(work, device_id)
    rows, total = await telemetry.dead_letters(
        work.session, device_id, offset=place.offset, limit=place.limit
    )
    return DeadLetterList(
        dead_letters=[
            DeadLetterView.model_validate(
                row.model_dump() | {"payload": row.payload.decode("utf-8", "replace")}
            )
            for row in rows
        ],
        dropped=device.dead_letters_dropped,
        pagination=Pagination.of(place, total),
    )
