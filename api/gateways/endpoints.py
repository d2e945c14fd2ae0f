"""`/api/v1/devices/{device_id}/children`, `/api/v1/devices/claim`, `…/provisioning` of profiles."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body

from api.deps import PageDep, WorkDep
from api.gateways import service
from api.gateways.schemas import (
    ChildForm,
    ChildList,
    ChildView,
    ClaimForm,
    ClaimView,
    CreatedProvisioning,
    ProvisioningView,
)
from api.openapi import GUARDED, problems
from api.security.permissions import requires

router = APIRouter(prefix="/api/v1", tags=["devices"], responses=GUARDED)


@router.get(
    "/devices/{device_id}/children",
    dependencies=[requires("devices:read")],
    responses=problems(404),
)
async def list_children(work: WorkDep, page: PageDep, device_id: UUID) -> ChildList:
    """List the devices that a gateway may speak for."""
    return await service.children(work, device_id, page)


@router.put(
    "/devices/{device_id}/children/{child_id}",
    dependencies=[requires("devices:update")],
    responses=problems(404, 409),
)
async def assign_child(
    work: WorkDep,
    device_id: UUID,
    child_id: UUID,
    form: Annotated[ChildForm | None, Body()] = None,
) -> ChildView:
    """Let a gateway speak for a device, by a name of its own if it has one."""
    return await service.assign(work, device_id, child_id, form or ChildForm())


@router.delete(
    "/devices/{device_id}/children/{child_id}",
    status_code=204,
    dependencies=[requires("devices:update")],
    responses=problems(404),
)
async def unassign_child(work: WorkDep, device_id: UUID, child_id: UUID) -> None:
    """Take a device from a gateway; the device stays."""
    await service.unassign(work, device_id, child_id)


@router.post("/devices/claim", dependencies=[requires("devices:update")], responses=problems(409))
async def claim_device(work: WorkDep, form: ClaimForm) -> ClaimView:
    """Claim a device that said it can be claimed, with the secret it named."""
    return await service.claim(work, form)


@router.get(
    "/device-profiles/{profile_id}/provisioning",
    dependencies=[requires("profiles:manage")],
    responses=problems(404),
)
async def get_provisioning(work: WorkDep, profile_id: UUID) -> ProvisioningView:
    """Return the key with which devices of a profile ask for credentials."""
    return await service.provisioning(work, profile_id)


@router.put(
    "/device-profiles/{profile_id}/provisioning",
    dependencies=[requires("profiles:manage")],
    responses=problems(404),
)
async def allow_provisioning(work: WorkDep, profile_id: UUID) -> CreatedProvisioning:
    """Let devices of a profile ask for credentials; the secret is in the answer, once."""
    return await service.allow_provisioning(work, profile_id)


@router.delete(
    "/device-profiles/{profile_id}/provisioning",
    status_code=204,
    dependencies=[requires("profiles:manage")],
    responses=problems(404),
)
async def forbid_provisioning(work: WorkDep, profile_id: UUID) -> None:
    """Let no device of a profile ask for credentials any more."""
    await service.forbid_provisioning(work, profile_id)
