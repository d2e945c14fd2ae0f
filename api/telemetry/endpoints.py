"""`/api/v1/devices/{device_id}/data` and what belongs to it."""

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from api.deps import PageDep, WorkDep
from api.openapi import GUARDED, problems
from api.schemas import SearchText
from api.security.permissions import requires
from api.telemetry import service
from api.telemetry.schemas import Aggregation, DeadLetterList, DeviceData, LatestView

router = APIRouter(
    prefix="/api/v1/devices/{device_id}",
    tags=["telemetry"],
    responses=GUARDED | problems(404),
)

_MAX_METRICS = 200


@router.get(
    "/data",
    dependencies=[requires("telemetry:read")],
    response_model=None,
    responses={200: {"model": DeviceData}},
)
async def get_data(
    work: WorkDep,
    device_id: UUID,
    start_time: Annotated[AwareDatetime, Query(description="First instant, ISO 8601.")],
    end_time: Annotated[AwareDatetime, Query(description="The end, not part of the range.")],
    metrics: Annotated[
        list[SearchText] | None,
        Query(max_length=_MAX_METRICS, description="Names, repeated or separated by commas."),
    ] = None,
    aggregation: Aggregation = "none",
    limit: Annotated[
        int, Query(ge=1, le=10_000, description="Messages; without aggregation.")
    ] = 1000,
    cursor: Annotated[SearchText | None, Query(description="Without aggregation.")] = None,
) -> Response:
    """Return measurements of one device, oldest first, as they came or summed up by time."""
    names = [name for part in metrics or () for name in part.split(",") if name]
    answer = await service.data(
        work,
        device_id,
        start=start_time,
        end=end_time,
        metrics=names or None,
        aggregation=aggregation,
        limit=limit,
        cursor=cursor,
    )
    # Thousands of values: encoded as they are, not validated one by one.
    return Response(msgspec.json.encode(answer), media_type="application/json")


@router.get("/latest", dependencies=[requires("telemetry:read")])
async def get_latest(work: WorkDep, device_id: UUID) -> LatestView:
    """Return the newest value of every metric of one device."""
    return await service.latest(work, device_id)


@router.get("/dead-letters", dependencies=[requires("telemetry:read")])
async def list_dead_letters(work: WorkDep, page: PageDep, device_id: UUID) -> DeadLetterList:
    """List messages of a device that could not be stored, newest first, with the reason."""
    return await service.dead_letters(work, device_id, page)
