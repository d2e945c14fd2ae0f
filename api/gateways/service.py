"""Gateways, claims and provisioning keys."""

from uuid import UUID

from api.deps import Page
from api.devices.service import found, in_service
from api.gateways.schemas import (
    ChildForm,
    ChildList,
    ChildView,
    ClaimForm,
    ClaimView,
    CreatedProvisioning,
    ProvisioningView,
)
from api.schemas import Pagination
from api.work import Work
from core import bus
from core.crypto import device_key_digest, new_device_key
from core.db.repositories import device_names, devices, gateways
from core.db.tables import DeviceEvent
from core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError


async def children(work: Work, gateway_id: UUID, place: Page) -> ChildList:
    """Return a page of the devices that a gateway may speak for.

    Raises:
        NotFoundError: There is no such device.
    """
    await found(work, gateway_id)
    rows, total = await gateways.page(
        work.session, gateway_id, offset=place.offset, limit=place.limit
    )
    return ChildList(
        children=[
            ChildView.model_validate(
                {**child.model_dump(), "device_name": device.name, "status": device.status}
            )
            for child, device in rows
        ],
        pagination=Pagination.of(place, total),
    )


async def assign(work: Work, gateway_id: UUID, device_id: UUID, form: ChildForm) -> ChildView:
    """Let a gateway speak for a device.

    Raises:
        NotFoundError: There is no such device, or gateway.
        ConflictError: One of them is out of service, or the gateway calls another device so.
        InvalidInputError: A device cannot be its own gateway.
    """
    if gateway_id == device_id:
        raise InvalidInputError(
            "A device cannot be its own gateway.",
            errors=(FieldError("/device_id", "is the gateway itself"),),
        )
    await in_service(work, gateway_id)
    device, _ = await in_service(work, device_id)
    name = form.name or device.name
    other = await gateways.child_named(work.session, gateway_id, name)
    if other is not None and other.device_id != device_id:
        raise ConflictError(f"The gateway calls another device {name!r}.")
    await gateways.assign(
        work.session,
        tenant_id=work.tenant_id,
        gateway_id=gateway_id,
        device_id=device_id,
        name=name,
    )
    work.audit("gateway.child_assigned", "device", gateway_id, device_id=str(device_id), name=name)
    row = await gateways.child_named(work.session, gateway_id, name)
    assert row is not None
    await work.session.refresh(row)
    return ChildView.model_validate(
        {**row.model_dump(), "device_name": device.name, "status": device.status}
    )


async def unassign(work: Work, gateway_id: UUID, device_id: UUID) -> None:
    """Take a device from a gateway, which cannot speak for it from then on.

    Raises:
        NotFoundError: There is no such gateway, or it has no such device.
    """
    await found(work, gateway_id)
    if not await gateways.unassign(work.session, gateway_id, device_id):
        raise NotFoundError("The gateway has no such device.")
    work.audit("gateway.child_unassigned", "device", gateway_id, device_id=str(device_id))
    work.notify(bus.DEVICE_DISCONNECT, str(device_id))


async def claim(work: Work, form: ClaimForm) -> ClaimView:
    """Claim a device that said it can be claimed, with the secret that it named.

    Raises:
        ConflictError: It cannot be claimed, or not with this secret; which of them is not said.
    """
    named = await device_names.by_name(work.session, [form.name])
    device_id = named.get(form.name)
    row = None
    if device_id is not None:
        digest = device_key_digest(form.secret)
        row = await gateways.claim(work.session, device_id, digest, work.caller.user_id)
    if device_id is None or row is None:
        raise ConflictError("There is no device of this name that can be claimed so now.")
    work.session.add(
        DeviceEvent(
            tenant_id=work.tenant_id,
            device_id=device_id,
            time=row.claimed_at,
            name="device.claimed",
            data={"claimed_by": str(work.caller.user_id)},
        )
    )
    work.audit("device.claimed", "device", device_id)
    return ClaimView.model_validate(row)


async def provisioning(work: Work, profile_id: UUID) -> ProvisioningView:
    """Return what lets devices of a profile ask for credentials; never its secret.

    Raises:
        NotFoundError: There is no such profile, or its devices cannot ask.
    """
    row = await gateways.provisioning_key(work.session, profile_id)
    if row is None:
        raise NotFoundError("No device can ask for credentials of this profile.")
    return ProvisioningView.model_validate(
        {"provision_device_key": row.key, "created_at": row.created_at}
    )


async def allow_provisioning(work: Work, profile_id: UUID) -> CreatedProvisioning:
    """Let devices of a profile ask for credentials, with a new key and secret.

    Raises:
        NotFoundError: There is no such profile.
    """
    if await devices.get_profile(work.session, profile_id) is None:
        raise NotFoundError("There is no such device profile.")
    key, secret = new_device_key(), new_device_key()
    row = await gateways.set_provisioning_key(
        work.session,
        tenant_id=work.tenant_id,
        profile_id=profile_id,
        key=key,
        secret_sha256=device_key_digest(secret),
    )
    work.audit("profile.provisioning_allowed", "device_profile", profile_id)
    return CreatedProvisioning.model_validate(
        {
            "provision_device_key": key,
            "provision_device_secret": secret,
            "created_at": row.created_at,
        }
    )


async def forbid_provisioning(work: Work, profile_id: UUID) -> None:
    """Let no device of a profile ask for credentials any more.

    Raises:
        NotFoundError: There is no such profile, or none could.
    """
    if not await gateways.forget_provisioning_key(work.session, profile_id):
        raise NotFoundError("No device can ask for credentials of this profile.")
    work.audit("profile.provisioning_forbidden", "device_profile", profile_id)
