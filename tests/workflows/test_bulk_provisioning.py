"""Many devices are registered a few at a time, wait side by side, and are counted."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlmodel import col, select
from temporalio import activity
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
)

from activities.provisioning import ProvisioningActivities
from activities.resources import Resources
from core.db.session import Database
from core.db.tables import Device
from core.settings import Settings
from core.temporal.activity_names import ProvisioningActivity
from core.temporal.client import connect, data_converter
from core.temporal.contracts import (
    BulkProgress,
    BulkProvisioningInput,
    DeviceConnected,
    ProvisioningInput,
)
from core.temporal.names import (
    Signal,
    TaskQueue,
    WorkflowType,
    bulk_provisioning_id,
    provisioning_id,
)
from core.temporal.provisioning_contracts import Connection, ProvisioningState, Stage
from tests.support.durable import opened_resources, skipping_time, working
from tests.support.provisioning import connect_device, provisioning
from tests.support.servers import free_port, running
from tests.support.tenants import make_device, make_profile
from tests.support.waiting import eventually
from workers.stack.temporal import temporal
from workers.worker import workflow_runner
from workflows.bulk_provisioning import BulkProvisioning
from workflows.device_provisioning import DeviceProvisioning


class Watched:
    """The provisioning family, noting which devices are being registered at the same time."""

    def __init__(self, resources: Resources) -> None:
        self._family = ProvisioningActivities(resources)
        self._registering: set[UUID] = set()
        self.most = 0

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return the family's activities, two of them watched."""
        watched = {self._family.register, self._family.await_connection}
        return (
            self.register,
            self.await_connection,
            *(run for run in self._family.activities() if run not in watched),
        )

    @activity.defn(name=ProvisioningActivity.REGISTER)
    async def register(self, call: ProvisioningInput) -> None:
        """Note the beginning of a registration."""
        self._registering.add(call.device_id)
        self.most = max(self.most, len(self._registering))
        try:
            await self._family.register(call)
        except Exception:
            self._registering.discard(call.device_id)
            raise

    @activity.defn(name=ProvisioningActivity.AWAIT_CONNECTION)
    async def await_connection(self, call: ProvisioningInput) -> Connection:
        """Note the end of a registration."""
        try:
            return await self._family.await_connection(call)
        finally:
            self._registering.discard(call.device_id)


@pytest.fixture(scope="module")
def own_server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A Temporal of its own: what other tests left in the shared queue delays hundreds of tasks."""
    own = replace(
        settings,
        home=tmp_path_factory.mktemp("temporal"),
        temporal=settings.temporal.model_copy(update={"port": free_port(), "ui_port": free_port()}),
    )
    with running(temporal(own), own):
        yield own


@pytest.fixture
async def temporal_client(own_server: Settings) -> Client:
    """A client of that server."""
    return await connect(own_server)


@pytest.fixture
async def resources(
    settings: Settings, worker_database: Database, bus: Redis
) -> AsyncIterator[Resources]:
    async with opened_resources(settings, worker_database, bus) as opened:
        yield opened


@asynccontextmanager
async def watching(client: Client, resources: Resources) -> AsyncGenerator[Watched]:
    watched = Watched(resources)
    async with working(
        client,
        [BulkProvisioning, DeviceProvisioning],
        {TaskQueue.AUTOMATION: [watched]},
        # As in service: importing the files anew for each of hundreds of workflows takes minutes.
        workflow_runner=workflow_runner(),
    ):
        yield watched


async def start(client: Client, call: BulkProvisioningInput) -> WorkflowHandle[Any, BulkProgress]:
    return await client.start_workflow(
        WorkflowType.BULK_PROVISIONING,
        call,
        id=bulk_provisioning_id(call.tenant_id, call.bulk_id),
        task_queue=TaskQueue.AUTOMATION,
        result_type=BulkProgress,
    )


async def progress(handle: WorkflowHandle[Any, Any]) -> BulkProgress:
    return await handle.query("progress", result_type=BulkProgress)


async def pending_devices(owner: Database, tenant_id: UUID) -> int:
    async with owner.transaction(tenant_id) as session:
        return (
            await session.scalar(
                select(sa.func.count())
                .select_from(Device)
                .where(col(Device.tenant_id) == tenant_id, col(Device.lifecycle) == "pending")
            )
            or 0
        )


async def connect_and_tell(client: Client, owner: Database, call: ProvisioningInput) -> None:
    at = await connect_device(owner, call.tenant_id, call.device_id)
    await client.get_workflow_handle(provisioning_id(call.tenant_id, call.device_id)).signal(
        Signal.DEVICE_CONNECTED, DeviceConnected(device_id=call.device_id, at=at)
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_200_devices_are_registered_few_at_a_time_and_wait_side_by_side(
    temporal_client: Client, owner: Database, resources: Resources, tenant_id: UUID
) -> None:
    profile_id = await make_profile(owner, tenant_id)
    await make_device(owner, tenant_id, profile_id, name="taken")
    devices = [provisioning(tenant_id, profile_id) for _ in range(200)]
    for index in (5, 100, 199):
        devices[index] = devices[index].model_copy(update={"name": "taken"})
    call = BulkProvisioningInput(
        tenant_id=tenant_id, bulk_id=uuid4(), devices=devices, parallel=8, per_run=60
    )
    async with watching(temporal_client, resources) as watched:
        handle = await start(temporal_client, call)
        registered = [device for device in devices if device.name != "taken"]

        async def all_pending() -> bool:
            return await pending_devices(owner, tenant_id) == len(registered)

        # No device has connected: the last one does not wait for the first one.
        await eventually(all_pending, timeout=90, interval=0.3)
        now = await progress(handle)
        assert (now.total, now.active, now.expired) == (200, 0, 0)
        for device in registered:
            await connect_and_tell(temporal_client, owner, device)
        result = await handle.result()
    assert watched.most <= 8
    assert result == BulkProgress(total=200, pending=0, active=197, expired=0, failed=3)
    first = temporal_client.get_workflow_handle(handle.id, run_id=handle.first_execution_run_id)
    assert (await first.describe()).status is WorkflowExecutionStatus.CONTINUED_AS_NEW


async def test_devices_that_never_connect_are_counted_across_runs_of_the_parent(
    settings: Settings, owner: Database, resources: Resources, tenant_id: UUID
) -> None:
    profile_id = await make_profile(owner, tenant_id)
    devices = [provisioning(tenant_id, profile_id) for _ in range(20)]
    call = BulkProvisioningInput(
        # A device that is named twice is one device.
        tenant_id=tenant_id,
        bulk_id=uuid4(),
        devices=[*devices, devices[0]],
        parallel=3,
        per_run=7,
    )
    async with (
        skipping_time(settings) as environment,
        watching(environment.client, resources) as watched,
    ):
        result = await (await start(environment.client, call)).result()
    assert result == BulkProgress(total=20, pending=0, active=0, expired=20, failed=0)
    assert watched.most <= 3


async def test_a_device_whose_workflow_is_terminated_counts_as_failed(
    temporal_client: Client, owner: Database, resources: Resources, tenant_id: UUID
) -> None:
    profile_id = await make_profile(owner, tenant_id)
    devices = [provisioning(tenant_id, profile_id) for _ in range(2)]
    call = BulkProvisioningInput(tenant_id=tenant_id, bulk_id=uuid4(), devices=devices)
    async with watching(temporal_client, resources):
        handle = await start(temporal_client, call)

        async def both_pending() -> bool:
            return await pending_devices(owner, tenant_id) == 2

        await eventually(both_pending, timeout=30)
        await temporal_client.get_workflow_handle(
            provisioning_id(tenant_id, devices[0].device_id)
        ).terminate()
        await connect_and_tell(temporal_client, owner, devices[1])
        assert await handle.result() == BulkProgress(total=2, active=1, failed=1)


async def test_cancelling_the_bulk_leaves_its_devices_to_themselves(
    temporal_client: Client, owner: Database, resources: Resources, tenant_id: UUID
) -> None:
    profile_id = await make_profile(owner, tenant_id)
    [device] = [provisioning(tenant_id, profile_id)]
    call = BulkProvisioningInput(tenant_id=tenant_id, bulk_id=uuid4(), devices=[device])
    async with watching(temporal_client, resources):
        handle = await start(temporal_client, call)

        async def pending() -> bool:
            return await pending_devices(owner, tenant_id) == 1

        await eventually(pending, timeout=30)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        child = temporal_client.get_workflow_handle(
            provisioning_id(tenant_id, device.device_id), result_type=ProvisioningState
        )
        await connect_and_tell(temporal_client, owner, device)
        # Its report finds no bulk, which is no error.
        assert (await child.result()).stage is Stage.ACTIVE


async def test_a_bulk_of_10000_devices_fits_into_one_payload(settings: Settings) -> None:
    tenant_id, profile_id = uuid4(), uuid4()
    call = BulkProvisioningInput(
        tenant_id=tenant_id,
        bulk_id=uuid4(),
        devices=[
            provisioning(tenant_id, profile_id, desired={"interval": 10}) for _ in range(10_000)
        ],
    )
    [payload] = await data_converter(settings).encode([call])
    assert payload.ByteSize() < 2 * 1024 * 1024  # Temporal's default limit of a payload
