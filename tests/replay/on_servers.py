"""The runs that are recorded with their real activities.

Each scenario goes as far as its run is to be recorded and returns the handle of it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from temporalio.client import WorkflowHandle

from core import webhooks
from core.db.session import Database
from core.imports.files import file_of
from core.settings import Settings
from core.temporal.contracts import (
    BulkProvisioningInput,
    DeviceConnected,
    TrainingInput,
    WebhookDeliveryInput,
)
from core.temporal.names import (
    STORAGE_SCHEDULE,
    Signal,
    TaskQueue,
    WorkflowType,
    bulk_provisioning_id,
    decommissioning_id,
    provisioning_id,
    training_id,
    webhook_delivery_id,
)
from core.temporal.storage_contracts import StorageInput
from tests.support.imports import begin, line, prepare
from tests.support.provisioning import Plant, connect_device
from tests.support.receiver import Answer, Receiver
from tests.support.tenants import make_device
from tests.support.training import training_input, worn_fleet
from tests.support.waiting import eventually
from tests.support.webhooks import make_delivery, make_webhook

Handle = WorkflowHandle[Any, Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """What scenarios run on.

    Attributes:
        skipping: On a Temporal server that skips time.
        real: On the development server, which also answers for workflows that do not exist.
        worker: The database as the workers see it.
    """

    settings: Settings
    skipping: Plant
    real: Plant
    worker: Database
    receiver: Receiver


async def _connected(stage: Stage) -> Handle:
    plant, call = stage.skipping, stage.skipping.device(desired={"interval": 10})
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(call)
        await plant.waiting(handle)
        at = await connect_device(plant.owner, plant.tenant_id, call.device_id)
        await handle.signal(
            Signal.DEVICE_CONNECTED, DeviceConnected(device_id=call.device_id, at=at)
        )
        await handle.result()
    return handle


async def _expired(stage: Stage) -> Handle:
    return await stage.skipping.provision(stage.skipping.device())


async def _provisioning_cancelled(stage: Stage) -> Handle:
    plant = stage.skipping
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(plant.device())
        await plant.waiting(handle)
        await handle.cancel()
    return handle


async def _refused(stage: Stage) -> Handle:
    plant = stage.skipping
    return await plant.provision(plant.device().model_copy(update={"profile_id": uuid4()}))


async def _bulk(stage: Stage) -> Handle:
    """Three devices, one of which cannot be registered, in two runs."""
    plant = stage.real  # the one that skips time never answers a signal to a run that is over
    devices = [plant.device(expire_after=2.0) for _ in range(3)]
    devices[1] = devices[1].model_copy(update={"profile_id": uuid4()})
    call = BulkProvisioningInput(
        tenant_id=plant.tenant_id, bulk_id=uuid4(), devices=devices, parallel=1, per_run=2
    )
    handle = await plant.environment.client.start_workflow(
        WorkflowType.BULK_PROVISIONING,
        call,
        id=bulk_provisioning_id(call.tenant_id, call.bulk_id),
        task_queue=TaskQueue.AUTOMATION,
    )
    await handle.result()
    return handle


async def _bulk_first_run(stage: Stage) -> Handle:
    handle = await _bulk(stage)
    return stage.real.environment.client.get_workflow_handle(
        handle.id, run_id=handle.first_execution_run_id
    )


async def _bulk_next_run(stage: Stage) -> Handle:
    handle = await _bulk(stage)
    return stage.real.environment.client.get_workflow_handle(handle.id)


async def _decommissioned(stage: Stage) -> Handle:
    made = await make_device(stage.real.owner, stage.real.tenant_id, stage.real.profile_id)
    return await _decommission(stage.real, made.id)


async def _decommissioned_while_provisioned(stage: Stage) -> Handle:
    call = stage.real.device()
    await stage.real.waiting(await stage.real.provision(call))
    return await _decommission(stage.real, call.device_id)


async def _provisioning_decommissioned(stage: Stage) -> Handle:
    call = stage.real.device()
    await stage.real.waiting(await stage.real.provision(call))
    await _decommission(stage.real, call.device_id)
    name = provisioning_id(call.tenant_id, call.device_id)
    return stage.real.environment.client.get_workflow_handle(name)


async def _decommission(plant: Plant, device_id: UUID) -> Handle:
    await plant.decommission(device_id)
    name = decommissioning_id(plant.tenant_id, device_id)
    return plant.environment.client.get_workflow_handle(name)


async def _trained(stage: Stage) -> Handle:
    profile_id = await worn_fleet(stage.settings, stage.real.owner, stage.real.tenant_id)
    return await _train(stage.real, training_input(stage.real.tenant_id, profile_id))


async def _not_enough_data(stage: Stage) -> Handle:
    plant = stage.real
    return await _train(plant, training_input(plant.tenant_id, plant.profile_id))


async def _train(plant: Plant, training: TrainingInput) -> Handle:
    return await plant.environment.client.start_workflow(
        WorkflowType.MODEL_TRAINING,
        training,
        id=training_id(training.tenant_id, training.training_id),
        task_queue=TaskQueue.AUTOMATION,
    )


async def _delivered(stage: Stage) -> Handle:
    return await _deliver(stage, Answer(500), Answer(429, {"Retry-After": "3600"}))


async def _given_up(stage: Stage) -> Handle:
    return await _deliver(stage, *[Answer(500)] * len(webhooks.RETRY_SCHEDULE))


async def _delivery_cancelled(stage: Stage) -> Handle:
    with stage.skipping.environment.auto_time_skipping_disabled():
        handle = await _deliver(stage, Answer(500))
        await eventually(lambda: not stage.receiver.answers)
        await handle.cancel()
    return handle


async def _deliver(stage: Stage, *answers: Answer) -> Handle:
    plant, receiver = stage.skipping, stage.receiver
    assert receiver.secret is not None
    receiver.answers.extend(answers)
    webhook_id = await make_webhook(
        stage.worker, stage.settings, plant.tenant_id, receiver.url(), receiver.secret
    )
    made = await make_delivery(stage.worker, plant.tenant_id, webhook_id)
    return await plant.environment.client.start_workflow(
        WorkflowType.WEBHOOK_DELIVERY,
        WebhookDeliveryInput(tenant_id=plant.tenant_id, delivery_id=made.id),
        id=webhook_delivery_id(plant.tenant_id, made.id),
        task_queue=TaskQueue.AUTOMATION,
    )


async def _imported(stage: Stage) -> Handle:
    plant = stage.real
    await make_device(plant.owner, plant.tenant_id, plant.profile_id, "engine-1")
    lines = [line(1), line(2, "nobody")]
    made = await prepare(stage.settings, plant.owner, plant.tenant_id, lines)
    return await begin(plant.environment.client, plant.tenant_id, made)


async def _import_failed(stage: Stage) -> Handle:
    plant = stage.real
    made = await prepare(stage.settings, plant.owner, plant.tenant_id, [])
    file_of(stage.settings.imports, made, "csv").unlink()
    return await begin(plant.environment.client, plant.tenant_id, made)


async def _storage(stage: Stage) -> Handle:
    return await stage.real.environment.client.start_workflow(
        WorkflowType.STORAGE_MAINTENANCE,
        StorageInput(),
        id=STORAGE_SCHEDULE,
        task_queue=TaskQueue.AUTOMATION,
    )


SCENARIOS: Final[dict[str, Callable[[Stage], Awaitable[Handle]]]] = {
    "provisioning/connected": _connected,
    "provisioning/expired": _expired,
    "provisioning/cancelled": _provisioning_cancelled,
    "provisioning/refused": _refused,
    "provisioning/decommissioned": _provisioning_decommissioned,
    "provisioning/bulk_first_run": _bulk_first_run,
    "provisioning/bulk_next_run": _bulk_next_run,
    "decommissioning/in_service": _decommissioned,
    "decommissioning/while_provisioned": _decommissioned_while_provisioned,
    "imports/completed": _imported,
    "imports/failed": _import_failed,
    "storage/applied": _storage,
    "training/champion": _trained,
    "training/not_enough_data": _not_enough_data,
    "webhooks/delivered": _delivered,
    "webhooks/given_up": _given_up,
    "webhooks/cancelled": _delivery_cancelled,
}
