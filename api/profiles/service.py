"""Device profiles."""

from uuid import UUID

from api.deps import Page
from api.profiles.schemas import ProfileChange, ProfileForm, ProfileList, ProfileView
from api.schemas import Pagination
from api.work import Work
from core import bus
from core.db.repositories import devices
from core.db.tables import DeviceProfile
from core.errors import ConflictError, NotFoundError


async def page(work: Work, wanted: Page) -> ProfileList:
    """Return a page of profiles."""
    rows = await devices.profiles(work.session, offset=wanted.offset, limit=wanted.limit)
    total = await devices.count_profiles(work.session)
    return ProfileList(
        profiles=[ProfileView.model_validate(row) for row in rows],
        pagination=Pagination.of(wanted, total),
    )


async def create(work: Work, form: ProfileForm) -> ProfileView:
    """Create a profile.

    Raises:
        ConflictError: The name is taken.
    """
    if await devices.profiles_by_name(work.session, [form.name]):
        raise ConflictError(f"There is a device profile {form.name!r} already.")
    profile = DeviceProfile(
        tenant_id=work.tenant_id,
        name=form.name,
        description=form.description,
        configuration=form.configuration.document(),
    )
    work.session.add(profile)
    await work.session.flush()
    work.audit("profile.created", "device_profile", profile.id, name=profile.name)
    work.notify(bus.PROFILES_CHANGED, str(work.tenant_id))
    await work.session.refresh(profile)
    return ProfileView.model_validate(profile)


async def get(work: Work, profile_id: UUID) -> ProfileView:
    """Return one profile.

    Raises:
        NotFoundError: There is none.
    """
    return ProfileView.model_validate(await _get(work, profile_id))


async def update(work: Work, profile_id: UUID, change: ProfileChange) -> ProfileView:
    """Change a profile; brokers measure by it at once.

    Raises:
        NotFoundError: There is none.
    """
    profile = await _get(work, profile_id)
    changed: list[str] = []
    if change.configuration is not None:
        profile.configuration = change.configuration.document()
        changed.append("configuration")
        work.notify(bus.PROFILES_CHANGED, str(work.tenant_id))
    if change.description is not None:
        profile.description = change.description
        changed.append("description")
    work.audit("profile.updated", "device_profile", profile_id, fields=changed)
    await work.session.flush()
    return ProfileView.model_validate(profile)


async def _get(work: Work, profile_id: UUID) -> DeviceProfile:
    profile = await devices.get_profile(work.session, profile_id)
    if profile is None:
        raise NotFoundError("There is no such device profile.")
    return profile
