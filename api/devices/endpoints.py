"""`/api/v1/devices`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from api.deps import PageDep, ServicesDep, WorkDep
from api.devices import service
from api.devices.schemas import (
    CreatedDevice,
    DeviceChange,
    DeviceForm,
    DeviceList,
    DeviceView,
    EventList,
    Lifecycle,
    Status,
)
from api.openapi import GUARDED, problems
from api.schemas import SearchText
from api.security.permissions import requires
from core.db.repositories.devices import DeviceFilter

router = APIRouter(prefix="/api/v1/devices", tags=["devices"], responses=GUARDED)


@router.get("", dependencies=[requires("devices:read")])
async def list_devices(
    work: WorkDep,
    page: PageDep,
    status: Status | None = None,
    device_type: Annotated[SearchText | None, Query(alias="type")] = None,
    lifecycle: Annotated[
        Lifecycle | None, Query(description="Without it, all but decommissioned devices.")
    ] = None,
    site: SearchText | None = None,
    tag: Annotated[
        list[SearchText] | None, Query(max_length=50, description="Repeated: all of them.")
    ] = None,
    search: Annotated[SearchText | None, Query(description="Part of the name.")] = None,
) -> DeviceList:
    """List devices by name."""
    wanted = DeviceFilter(
        status=status,
        profile=device_type,
        lifecycle=lifecycle,
        site=site,
        tags=tuple(tag or ()),
        search=search,
    )
    return await service.page(work, wanted, page)


@router.post(
    "", status_code=201, dependencies=[requires("devices:create")], responses=problems(409)
)
async def create_device(work: WorkDep, services: ServicesDep, form: DeviceForm) -> CreatedDevice:
    """Create a device; its key is in the answer, and nowhere else ever again."""
    return await service.create(work, form, services.settings.mqtt_endpoint)


@router.get("/{device_id}", dependencies=[requires("devices:read")], responses=problems(404))
async def get_device(work: WorkDep, device_id: UUID) -> DeviceView:
    """Return one device."""
    return await service.get(work, device_id)


@router.patch(
    "/{device_id}", dependencies=[requires("devices:update")], responses=problems(404, 409)
)
async def update_device(work: WorkDep, device_id: UUID, change: DeviceChange) -> DeviceView:
    """Change a device; fields left out stay as they are."""
    return await service.update(work, device_id, change)


@router.delete(
    "/{device_id}",
    status_code=204,
    dependencies=[requires("devices:delete")],
    responses=problems(404),
)
async def delete_device(work: WorkDep, device_id: UUID) -> None:
    """Take a device out of service for good: no key of it is valid any more, its history stays."""
    await service.delete(work, device_id)


@router.post(
    "/{device_id}/provision",
    status_code=202,
    dependencies=[requires("devices:provision")],
    responses=problems(404, 409),
)
async def provision_device(work: WorkDep, services: ServicesDep, device_id: UUID) -> CreatedDevice:
    """Provision a device again that expired before it connected; it gets a new key."""
    return await service.provision(work, device_id, services.settings.mqtt_endpoint)


@router.get("/{device_id}/events", dependencies=[requires("devices:read")], responses=problems(404))
async def list_events(
    work: WorkDep, page: PageDep, device_id: UUID, name: SearchText | None = None
) -> EventList:
    """List what happened to a device, newest first."""
    return await service.events(work, device_id, name, page)
