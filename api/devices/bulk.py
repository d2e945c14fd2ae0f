"""Many devices at once."""

from uuid import UUID, uuid4

from api.devices.schemas import BulkCreated, BulkDevice, BulkForm, BulkProgressView, DeviceForm
from api.devices.service import columns, provisioning_input, unknown_type
from api.services import Services
from api.work import Work
from core.crypto import device_key_digest, new_device_key
from core.db.repositories import audit, devices
from core.db.tables import Device
from core.errors import FieldError, InvalidInputError, NotFoundError
from core.temporal import names
from core.temporal.contracts import BulkProgress, BulkProvisioningInput, ProvisioningInput
from core.temporal.outbox import StartWorkflow

CHUNK = 1000
"""Devices of one workflow: its input stays far below Temporal's 2 MB for one payload, and the
history of its children far below 51,200 events."""
_ACTION = "device.bulk_created"
_RESOURCE = "bulk_provisioning"
_MAX_ERRORS = 50


async def create(work: Work, form: BulkForm, mqtt_endpoint: str) -> BulkCreated:
    """Create devices, all or none, and let them be provisioned.

    Raises:
        InvalidInputError: A type is unknown, or a name is taken or there twice.
    """
    profiles = await devices.profiles_by_name(work.session, (d.type for d in form.devices))
    for index, device in enumerate(form.devices):
        if device.type not in profiles:
            raise unknown_type(f"/devices/{index}/type", device.type)
    await _check_names(work, form.devices)

    bulk_id = uuid4()
    made: list[BulkDevice] = []
    inputs: list[ProvisioningInput] = []
    rows: list[Device] = []
    for device in form.devices:
        row = Device(id=uuid4(), **columns(device, profiles[device.type], work.tenant_id))
        key = new_device_key()
        rows.append(row)
        made.append(BulkDevice(name=row.name, device_id=row.id, device_key=key))
        # Location and metadata are in the row already; the payload carries references.
        inputs.append(
            provisioning_input(row, key, work.tenant_id).model_copy(
                update={"location": None, "metadata": {}}
            )
        )
    await devices.insert_many(
        work.session,
        rows,
        [(device.device_id, device_key_digest(device.device_key)) for device in made],
    )
    for number, start in enumerate(range(0, len(inputs), CHUNK)):
        part = BulkProvisioningInput(
            tenant_id=work.tenant_id,
            bulk_id=_chunk_id(bulk_id, number),
            devices=inputs[start : start + CHUNK],
        )
        await work.enqueue(
            StartWorkflow(
                workflow_type=names.WorkflowType.BULK_PROVISIONING,
                workflow_id=names.bulk_provisioning_id(work.tenant_id, part.bulk_id),
                input=part.model_dump(mode="json"),
            )
        )
    work.audit(_ACTION, _RESOURCE, bulk_id, total=len(made))
    return BulkCreated(provisioning_id=bulk_id, mqtt_endpoint=mqtt_endpoint, devices=made)


async def total(work: Work, bulk_id: UUID) -> int:
    """Return how many devices a bulk has.

    Raises:
        NotFoundError: There is no such bulk.
    """
    # The audit log is the one place that knows a bulk as a whole.
    entry = await audit.find(
        work.session, action=_ACTION, resource_type=_RESOURCE, resource_id=str(bulk_id)
    )
    if entry is None:
        raise NotFoundError("There is no such bulk provisioning.")
    return int(entry.details["total"])


async def progress(
    services: Services, tenant_id: UUID, bulk_id: UUID, devices_in_it: int
) -> BulkProgressView:
    """Ask the workflows of a bulk how far they are.

    Raises:
        UnavailableError: Temporal, or every worker, is down.
    """
    counts = {"pending": 0, "active": 0, "expired": 0, "failed": 0}
    for number, start in enumerate(range(0, devices_in_it, CHUNK)):
        workflow_id = names.bulk_provisioning_id(tenant_id, _chunk_id(bulk_id, number))
        part = await services.temporal.query(workflow_id, "progress", BulkProgress)
        if part is None:  # the relay has not started it yet
            counts["pending"] += min(CHUNK, devices_in_it - start)
            continue
        for name in counts:
            counts[name] += getattr(part, name)
    return BulkProgressView(provisioning_id=bulk_id, total=devices_in_it, **counts)


def _chunk_id(bulk_id: UUID, number: int) -> UUID:
    return names.stable_uuid(f"bulk:{bulk_id}:{number}")


async def _check_names(work: Work, forms: list[DeviceForm]) -> None:
    seen: set[str] = set()
    taken = await devices.names_in_use(work.session, [form.name for form in forms])
    errors: list[FieldError] = []
    for index, form in enumerate(forms):
        pointer = f"/devices/{index}/name"
        if form.name in seen:
            errors.append(FieldError(pointer, f"{form.name!r} is in the list twice."))
        elif form.name in taken:
            errors.append(FieldError(pointer, f"There is a device {form.name!r} already."))
        seen.add(form.name)
    if errors:
        raise InvalidInputError("Names must be unique.", errors=tuple(errors[:_MAX_ERRORS]))
