"""`/api/v1/devices/bulk`."""

from uuid import UUID

from fastapi import APIRouter

from api.deps import ServicesDep, WorkDep, WorkFactoryDep
from api.devices import bulk
from api.devices.schemas import BulkCreated, BulkForm, BulkProgressView
from api.openapi import GUARDED, problems
from api.security.permissions import requires

router = APIRouter(prefix="/api/v1/devices/bulk", tags=["devices"], responses=GUARDED)


@router.post("", status_code=202, dependencies=[requires("devices:create")])
async def create_devices(work: WorkDep, services: ServicesDep, form: BulkForm) -> BulkCreated:
    """Create up to 10,000 devices, all or none; their keys are in this answer only."""
    return await bulk.create(work, form, services.settings.mqtt_endpoint)


@router.get(
    "/{provisioning_id}", dependencies=[requires("devices:read")], responses=problems(404, 409)
)
async def get_progress(
    work: WorkFactoryDep, services: ServicesDep, provisioning_id: UUID
) -> BulkProgressView:
    """Tell how far a bulk's provisioning is."""
    async with work() as unit:
        devices = await bulk.total(unit, provisioning_id)
    return await bulk.progress(services, work.caller.tenant_id, provisioning_id, devices)
