"""Devices and their life."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from api.deps import Page
from api.devices.schemas import (
    CreatedDevice,
    CredentialsView,
    DeviceChange,
    DeviceForm,
    DeviceList,
    DeviceView,
    EventList,
    EventView,
)
from api.schemas import Pagination
from api.work import Work
from core import bus
from core.crypto import device_key_digest, new_device_key
from core.db.repositories import credentials, devices, provisioning
from core.db.repositories.devices import DeviceFilter
from core.db.tables import Device, DeviceCredential, DeviceProfile
from core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from core.temporal import names
from core.temporal.contracts import DecommissioningInput, ProvisioningInput
from core.temporal.outbox import StartWorkflow


async def page(work: Work, wanted: DeviceFilter, place: Page) -> DeviceList:
    """Return a page of devices."""
    rows, total = await devices.page(work.session, wanted, offset=place.offset, limit=place.limit)
    return DeviceList(
        devices=[DeviceView.of(*row) for row in rows], pagination=Pagination.of(place, total)
    )


async def create(work: Work, form: DeviceForm, mqtt_endpoint: str) -> CreatedDevice:
    """Create a device and let it be provisioned.

    Raises:
        InvalidInputError: There is no such profile.
        ConflictError: The name is taken.
    """
    profile = (await devices.profiles_by_name(work.session, [form.type])).get(form.type)
    if profile is None:
        raise unknown_type("/type", form.type)
    if await devices.names_in_use(work.session, [form.name]):
        raise ConflictError(f"There is a device {form.name!r} already.")
    device = Device(id=uuid4(), **columns(form, profile, work.tenant_id))
    work.session.add(device)
    await work.session.flush()
    key = add_key(work, device.id)
    await work.enqueue(start_provisioning(provisioning_input(device, key, work.tenant_id)))
    work.audit("device.created", "device", device.id, name=device.name, type=profile.name)
    await work.session.flush()
    await work.session.refresh(device)
    return CreatedDevice(
        device=DeviceView.of(device, profile.name),
        credentials=CredentialsView(
            device_id=device.id, device_key=key, mqtt_endpoint=mqtt_endpoint
        ),
    )


async def get(work: Work, device_id: UUID) -> DeviceView:
    """Return one device.

    Raises:
        NotFoundError: There is none.
    """
    return DeviceView.of(*await found(work, device_id))


async def update(work: Work, device_id: UUID, change: DeviceChange) -> DeviceView:
    """Change a device.

    Raises:
        NotFoundError: There is none.
        ConflictError: The name is taken, or the device is out of service.
    """
    device, profile = await in_service(work, device_id)
    changes = change.model_dump(exclude_unset=True, exclude_none=True)
    if "location" in change.model_fields_set:
        changes["location"] = None if change.location is None else change.location.model_dump()
    if "site" in change.model_fields_set:
        changes["site"] = change.site
    name = changes.get("name", device.name)
    if name != device.name and await devices.names_in_use(work.session, [name]):
        raise ConflictError(f"There is a device {name!r} already.")
    for field, value in changes.items():
        setattr(device, "labels" if field == "metadata" else field, value)
    device.updated_at = datetime.now(UTC)
    work.audit("device.updated", "device", device_id, fields=sorted(changes))
    work.notify(bus.DEVICE_CHANGED, str(device_id))
    await work.session.flush()
    return DeviceView.of(device, profile)


async def delete(work: Work, device_id: UUID) -> None:
    """Take a device out of service; its history stays.

    Its keys are good for nothing once this is committed. The workflow then makes sure that the
    live connection is dropped, whatever is down at the moment.

    Raises:
        NotFoundError: There is none.
    """
    await found(work, device_id)
    if await provisioning.decommission(work.session, work.tenant_id, device_id):
        work.audit("device.deleted", "device", device_id)
        stop = DecommissioningInput(tenant_id=work.tenant_id, device_id=device_id)
        await work.enqueue(
            StartWorkflow(
                workflow_type=names.WorkflowType.DEVICE_DECOMMISSIONING,
                workflow_id=names.decommissioning_id(work.tenant_id, device_id),
                input=stop.model_dump(mode="json"),
            )
        )
        work.notify(bus.DEVICE_DISCONNECT, str(device_id))


async def provision(work: Work, device_id: UUID, mqtt_endpoint: str) -> CreatedDevice:
    """Provision a device again that expired or was never provisioned; it gets a new key.

    Raises:
        NotFoundError: There is none.
        ConflictError: It is in service, out of service for good, or being provisioned.
    """
    device, profile = await in_service(work, device_id)
    if device.lifecycle not in ("registered", "expired"):
        raise ConflictError(
            f"The device is {device.lifecycle}; rotate its credentials if its key is lost."
        )
    if not await devices.forget_provisioning(work.session, work.tenant_id, device_id):
        raise ConflictError("The device is being provisioned at this moment.")
    await credentials.revoke(work.session, device_id)
    key = add_key(work, device_id)
    start = start_provisioning(provisioning_input(device, key, work.tenant_id), again=True)
    await work.enqueue(start)
    work.audit("device.provisioned", "device", device_id)
    return CreatedDevice(
        device=DeviceView.of(device, profile),
        credentials=CredentialsView(
            device_id=device_id, device_key=key, mqtt_endpoint=mqtt_endpoint
        ),
    )


async def events(work: Work, device_id: UUID, name: str | None, place: Page) -> EventList:
    """Return a page of a device's events.

    Raises:
        NotFoundError: There is no such device.
    """
    await found(work, device_id)
    rows, total = await devices.events(
        work.session, device_id, name=name, offset=place.offset, limit=place.limit
    )
    return EventList(
        events=[EventView.model_validate(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def found(work: Work, device_id: UUID) -> devices.DeviceOfType:
    """Return a device of this tenant.

    Raises:
        NotFoundError: There is none.
    """
    row = await devices.get(work.session, device_id)
    if row is None:
        raise NotFoundError("There is no such device.")
    return row


async def in_service(work: Work, device_id: UUID) -> devices.DeviceOfType:
    """Return a device that can still be changed, locked.

    Raises:
        NotFoundError: There is none.
        ConflictError: It is out of service.
    """
    row = await devices.get(work.session, device_id, lock=True)
    if row is None:
        raise NotFoundError("There is no such device.")
    if row[0].lifecycle == "decommissioned":
        raise ConflictError("The device is out of service.")
    return row


def unknown_type(pointer: str, name: str) -> InvalidInputError:
    """Return the error for a type that is no profile's name."""
    return InvalidInputError(
        "The device type is not known.",
        errors=(
            FieldError(
                pointer,
                f"There is no device profile {name!r}.",
                "Create it at /api/v1/device-profiles first.",
            ),
        ),
    )


def columns(form: DeviceForm, profile: DeviceProfile, tenant_id: UUID) -> dict[str, Any]:
    """Return a new device's attributes by their names in Python."""
    return {
        "tenant_id": tenant_id,
        "profile_id": profile.id,
        "name": form.name,
        "location": None if form.location is None else form.location.model_dump(),
        "site": form.site,
        "tags": form.tags,
        "labels": form.metadata,
        "configuration": form.configuration,
    }


def provisioning_input(device: Device, key: str, tenant_id: UUID) -> ProvisioningInput:
    """Return what the provisioning workflow starts with."""
    desired = device.configuration.get("desired")
    return ProvisioningInput(
        tenant_id=tenant_id,
        device_id=device.id,
        name=device.name,
        profile_id=device.profile_id,
        key_sha256=device_key_digest(key).hex(),
        location=device.location,
        metadata=device.labels,
        desired=desired if isinstance(desired, dict) else {},
    )


def start_provisioning(start: ProvisioningInput, *, again: bool = False) -> StartWorkflow:
    """Return the start of one device's provisioning, the first or, with `again`, another."""
    return StartWorkflow(
        workflow_type=names.WorkflowType.DEVICE_PROVISIONING,
        workflow_id=names.provisioning_id(start.tenant_id, start.device_id),
        input=start.model_dump(mode="json"),
        again=again,
    )


def add_key(work: Work, device_id: UUID) -> str:
    """Give a device a new key and return it; it is stored nowhere."""
    key = new_device_key()
    work.session.add(
        DeviceCredential(
            tenant_id=work.tenant_id, device_id=device_id, key_sha256=device_key_digest(key)
        )
    )
    return key
