"""`/api/v1/devices/{device_id}/twin`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Response

from api.deps import WorkDep
from api.devices import twins
from api.devices.twins import TwinView
from api.openapi import GUARDED, problems
from api.schemas import JsonObject
from api.security.permissions import requires

router = APIRouter(prefix="/api/v1/devices/{device_id}/twin", tags=["devices"], responses=GUARDED)


@router.get("", dependencies=[requires("devices:read")], responses=problems(404))
async def get_twin(work: WorkDep, response: Response, device_id: UUID) -> TwinView:
    """Return a device's twin; the `ETag` is the version of the desired state."""
    twin = await twins.get(work, device_id)
    response.headers["etag"] = twins.etag(twin)
    return twin


@router.patch(
    "/desired", dependencies=[requires("devices:update")], responses=problems(404, 409, 412)
)
async def patch_desired(
    work: WorkDep,
    response: Response,
    device_id: UUID,
    patch: JsonObject,
    if_match: Annotated[str | None, Header()] = None,
) -> TwinView:
    """Change the desired state by a JSON merge patch; with `If-Match`, only that version."""
    twin = await twins.patch_desired(work, device_id, patch, if_match)
    response.headers["etag"] = twins.etag(twin)
    return twin
