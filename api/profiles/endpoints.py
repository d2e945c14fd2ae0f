"""`/api/v1/device-profiles`."""

from uuid import UUID

from fastapi import APIRouter

from api.deps import PageDep, WorkDep
from api.openapi import GUARDED, problems
from api.profiles import service
from api.profiles.schemas import ProfileChange, ProfileForm, ProfileList, ProfileView
from api.security.permissions import requires

router = APIRouter(prefix="/api/v1/device-profiles", tags=["devices"], responses=GUARDED)


@router.get("", dependencies=[requires("profiles:read")])
async def list_profiles(work: WorkDep, page: PageDep) -> ProfileList:
    """List device profiles by name."""
    return await service.page(work, page)


@router.post(
    "", status_code=201, dependencies=[requires("profiles:manage")], responses=problems(409)
)
async def create_profile(work: WorkDep, form: ProfileForm) -> ProfileView:
    """Create a device profile; devices refer to it by name, as their `type`."""
    return await service.create(work, form)


@router.get("/{profile_id}", dependencies=[requires("profiles:read")], responses=problems(404))
async def get_profile(work: WorkDep, profile_id: UUID) -> ProfileView:
    """Return one device profile."""
    return await service.get(work, profile_id)


@router.patch(
    "/{profile_id}", dependencies=[requires("profiles:manage")], responses=problems(404, 409)
)
async def update_profile(work: WorkDep, profile_id: UUID, change: ProfileChange) -> ProfileView:
    """Change a device profile; fields left out stay as they are."""
    return await service.update(work, profile_id, change)
