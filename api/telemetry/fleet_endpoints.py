"""`/api/v1/telemetry`: measurements of many devices, and how long they are kept."""

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from api.deps import WorkDep, WorkFactoryDep
from api.openapi import GUARDED
from api.schemas import SearchText
from api.security.permissions import requires
from api.telemetry import export, fleet, policy
from api.telemetry.fleet_schemas import LatestOfDevices
from api.telemetry.policy_schemas import StoragePolicyForm, StoragePolicyView

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"], responses=GUARDED)


@router.get(
    "/latest",
    dependencies=[requires("telemetry:read")],
    response_model=None,
    responses={200: {"model": LatestOfDevices}},
)
async def get_latest_of_devices(
    work: WorkDep,
    device_ids: Annotated[
        list[SearchText] | None,
        Query(max_length=10_000, description="Ids, repeated or separated by commas."),
    ] = None,
    profile: Annotated[SearchText | None, Query(description="Name of a device profile.")] = None,
    site: SearchText | None = None,
    after: Annotated[UUID | None, Query(description="`next_after` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Devices.")] = 1000,
) -> Response:
    """Return the newest value of every metric of many devices, by device id."""
    answer = await fleet.latest(
        work, device_ids=device_ids, profile=profile, site=site, after=after, limit=limit
    )
    # Thousands of values: encoded as they are, not validated one by one.
    return Response(msgspec.json.encode(answer), media_type="application/json")


@router.get(
    "/export",
    dependencies=[requires("telemetry:read")],
    response_class=StreamingResponse,
    responses={200: {"content": {media: {} for media in export.MEDIA.values()}}},
)
async def export_telemetry(
    works: WorkFactoryDep,
    start_time: Annotated[AwareDatetime, Query(description="First instant, ISO 8601.")],
    end_time: Annotated[AwareDatetime, Query(description="The end, not part of the range.")],
    file_format: Annotated[export.Format, Query(alias="format")] = "csv",
    device_ids: Annotated[
        list[SearchText] | None,
        Query(max_length=10_000, description="Ids, repeated or separated by commas."),
    ] = None,
    profile: Annotated[SearchText | None, Query(description="Name of a device profile.")] = None,
    site: SearchText | None = None,
    metrics: Annotated[list[SearchText] | None, Query(max_length=200)] = None,
) -> StreamingResponse:
    """Return measurements as a CSV or Parquet file, a line per value, streamed."""
    names = [name for part in metrics or () for name in part.split(",") if name]
    return StreamingResponse(
        export.stream(
            works,
            form=file_format,
            devices=fleet.ids(device_ids),
            profile=profile,
            site=site,
            start=start_time,
            end=end_time,
            metrics=names or None,
        ),
        media_type=export.MEDIA[file_format],
        headers={"Content-Disposition": f'attachment; filename="telemetry.{file_format}"'},
    )


@router.get("/policy", dependencies=[requires("telemetry:read")])
async def get_storage_policy(work: WorkDep) -> StoragePolicyView:
    """Return how long the tenant's measurements are kept, and when they are sealed."""
    return await policy.get(work)


@router.put("/policy", dependencies=[requires("telemetry:manage")])
async def put_storage_policy(work: WorkDep, form: StoragePolicyForm) -> StoragePolicyView:
    """Decide how long measurements are kept; what is older is deleted in the night."""
    return await policy.put(work, form)
