"""A decommissioned device can never sign in again, whatever is under way.

On the real server: the one that skips time does not answer the cancellation of a workflow that
does not exist.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis.asyncio import Redis
from temporalio.client import Client, WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from activities.provisioning import ProvisioningActivities
from core import bus as channels
from core.db.session import Database
from core.db.tables import DeviceCommand
from core.settings import Settings
from core.temporal.names import TaskQueue
from tests.support.durable import opened_resources, working
from tests.support.provisioning import Plant, connect_device, next_message
from tests.support.tenants import make_device, make_profile
from tests.support.waiting import eventually
from workflows.device_decommissioning import DeviceDecommissioning
from workflows.device_provisioning import DeviceProvisioning


@pytest.fixture
async def plant(
    settings: Settings,
    worker_database: Database,
    owner: Database,
    bus: Redis,
    temporal_client: Client,
    tenant_id: UUID,
) -> AsyncIterator[Plant]:
    environment = WorkflowEnvironment.from_client(temporal_client)
    async with (
        opened_resources(settings, worker_database, bus) as resources,
        working(
            temporal_client,
            [DeviceProvisioning, DeviceDecommissioning],
            {TaskQueue.AUTOMATION: [ProvisioningActivities(resources)]},
        ),
    ):
        profile_id = await make_profile(owner, tenant_id)
        yield Plant(environment, owner, bus, tenant_id, profile_id)


async def test_decommissioning_revokes_every_credential_and_drops_the_connection(
    plant: Plant,
) -> None:
    made = await make_device(plant.owner, plant.tenant_id, plant.profile_id)
    await connect_device(plant.owner, plant.tenant_id, made.id)
    async with plant.owner.transaction(plant.tenant_id) as session:
        command = DeviceCommand(tenant_id=plant.tenant_id, device_id=made.id, name="stop")
        session.add(command)
    async with plant.bus.pubsub() as notices:
        await notices.subscribe(channels.DEVICE_DISCONNECT)
        await plant.decommission(made.id)
        assert await eventually(lambda: next_message(notices)) == str(made.id)
    state = await plant.state(made.id)
    assert (state.lifecycle, state.status, state.keys) == ("decommissioned", "offline", 0)
    async with plant.owner.transaction(plant.tenant_id) as session:
        stored = await session.get(DeviceCommand, command.id)
    assert stored is not None
    assert stored.status == "expired"
    await plant.decommission(made.id)  # again is no error
    again = await plant.provision(plant.device().model_copy(update={"device_id": made.id}))
    with pytest.raises(WorkflowFailureError):
        await again.result()
    assert (await plant.state(made.id)).keys == 0


async def test_decommissioning_ends_a_provisioning_that_is_under_way(plant: Plant) -> None:
    call = plant.device()
    handle = await plant.provision(call)
    await plant.waiting(handle)
    await plant.decommission(call.device_id)
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    state = await plant.state(call.device_id)
    assert (state.lifecycle, state.keys) == ("decommissioned", 0)
