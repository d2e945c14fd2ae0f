"""Measurements of many devices."""

from typing import Any
from uuid import UUID

from api.work import Work
from core.db.repositories import telemetry
from core.db.repositories.telemetry import LatestRow
from core.errors import FieldError, InvalidInputError


async def latest(
    work: Work,
    *,
    device_ids: list[str] | None,
    profile: str | None,
    site: str | None,
    after: UUID | None,
    limit: int,
) -> dict[str, Any]:
    """Return the newest values in the form of `LatestOfDevices`, ready to be encoded.

    Raises:
        InvalidInputError: A device id is none.
    """
    found = await telemetry.latest_of(
        work.session,
        devices=ids(device_ids),
        profile=profile,
        site=site,
        after=after,
        limit=limit + 1,
    )
    devices = list(found.items())
    more = len(devices) > limit
    return {
        "devices": [
            {"device_id": device_id, "metrics": _metrics(rows)}
            for device_id, rows in devices[:limit]
        ],
        "next_after": devices[limit - 1][0] if more else None,
    }


def _metrics(rows: list[LatestRow]) -> dict[str, Any]:
    # The newest row comes last, and so wins where lists share a metric.
    return {
        name: {"value": value, "timestamp": row.time}
        for row in rows
        for name, value in zip(row.names, row.values, strict=True)
    }


def ids(given: list[str] | None) -> list[UUID] | None:
    """Read device ids that are repeated or separated by commas.

    Raises:
        InvalidInputError: One is none.
    """
    if given is None:
        return None
    try:
        return [UUID(one) for part in given for one in part.split(",") if one]
    except ValueError as error:
        raise InvalidInputError(
            "A device id is not valid.",
            errors=(FieldError("", "device_ids must be UUIDs, separated by commas."),),
        ) from error
