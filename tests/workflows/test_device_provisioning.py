"""A device comes into service when it connects, and not later than its expiry."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError

from activities.provisioning import ProvisioningActivities
from core import bus as channels
from core.crypto import device_key_digest, new_device_key
from core.db.repositories import audit
from core.db.repositories.provisioning import REMINDER, store_credential
from core.db.session import Database
from core.db.tables import DeviceProfile
from core.settings import Settings
from core.temporal.contracts import DeviceConnected
from core.temporal.names import (
    Signal,
    TaskQueue,
    WorkflowType,
    provisioning_id,
)
from core.temporal.provisioning_contracts import ProvisioningState, Stage
from tests.support.durable import opened_resources, skipping_time, working
from tests.support.provisioning import Plant, connect_device, next_message
from tests.support.tenants import make_device, make_profile
from tests.support.waiting import eventually
from workflows.device_provisioning import DeviceProvisioning

WEEK = timedelta(days=7)


@pytest.fixture
async def plant(
    settings: Settings, worker_database: Database, owner: Database, bus: Redis, tenant_id: UUID
) -> AsyncIterator[Plant]:
    async with (
        skipping_time(settings) as environment,
        opened_resources(settings, worker_database, bus) as resources,
        working(
            environment.client,
            [DeviceProvisioning],
            {TaskQueue.AUTOMATION: [ProvisioningActivities(resources)]},
        ),
    ):
        profile_id = await make_profile(owner, tenant_id)
        yield Plant(environment, owner, bus, tenant_id, profile_id)


async def test_a_device_is_active_after_its_first_connection(plant: Plant) -> None:
    call = plant.device(desired={"interval": 10})
    with plant.environment.auto_time_skipping_disabled():
        async with plant.bus.pubsub() as notices:
            await notices.subscribe(channels.DEVICE_DOWN)
            handle = await plant.provision(call)
            await plant.waiting(handle)
            told = await eventually(lambda: next_message(notices))
        assert told == str(call.device_id)
        pending = await plant.state(call.device_id)
        assert (pending.lifecycle, pending.keys) == ("pending", 1)
        assert pending.desired == {"interval": 10}
        at = await connect_device(plant.owner, plant.tenant_id, call.device_id)
        await handle.signal(
            Signal.DEVICE_CONNECTED, DeviceConnected(device_id=call.device_id, at=at)
        )
        assert (await handle.result()).stage is Stage.ACTIVE
    active = await plant.state(call.device_id)
    assert (active.lifecycle, active.keys, active.activated_at) == ("active", 1, at)


async def test_a_device_that_connected_before_the_wait_is_active_at_once(plant: Plant) -> None:
    made = await make_device(plant.owner, plant.tenant_id, plant.profile_id, lifecycle="registered")
    at = await connect_device(plant.owner, plant.tenant_id, made.id)
    call = plant.device().model_copy(update={"device_id": made.id})
    with plant.environment.auto_time_skipping_disabled():
        assert (await (await plant.provision(call)).result()).stage is Stage.ACTIVE
    assert (await plant.state(made.id)).activated_at == at


async def test_a_signal_that_comes_first_is_not_lost(plant: Plant) -> None:
    call = plant.device()
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.environment.client.start_workflow(
            WorkflowType.DEVICE_PROVISIONING,
            call,
            id=provisioning_id(call.tenant_id, call.device_id),
            task_queue=TaskQueue.AUTOMATION,
            result_type=ProvisioningState,
            start_signal=Signal.DEVICE_CONNECTED,
            start_signal_args=[DeviceConnected(device_id=call.device_id, at=datetime.now(UTC))],
        )
        assert (await handle.result()).stage is Stage.ACTIVE


async def test_a_device_that_never_connects_is_reminded_of_once_and_expires(plant: Plant) -> None:
    call = plant.device()
    async with plant.bus.pubsub() as notices:
        await notices.subscribe(channels.dashboard(plant.tenant_id), channels.DEVICE_DISCONNECT)
        handle = await plant.provision(call)
        state = await handle.result()
        told = [await eventually(lambda: next_message(notices)) for _ in range(4)]
    assert state.stage is Stage.EXPIRED
    run = await handle.describe()
    assert run.close_time is not None
    assert run.close_time - run.start_time == pytest.approx(WEEK, abs=timedelta(seconds=30))
    assert [_kind(text) for text in told] == [
        "pending",
        "provisioning_reminder",
        str(call.device_id),  # the broker drops the connection
        "expired",
    ]
    [reminder] = await plant.events(call.device_id, REMINDER)
    assert reminder.time == state.reminded_at
    assert datetime.fromisoformat(reminder.data["waiting_since"]) == pytest.approx(
        state.reminded_at - timedelta(hours=1), abs=timedelta(seconds=30)
    )
    async with plant.owner.transaction(plant.tenant_id) as session:
        for action in (REMINDER, "device.expired"):
            assert await audit.find(
                session, action=action, resource_type="device", resource_id=str(call.device_id)
            )
    expired = await plant.state(call.device_id)
    assert (expired.lifecycle, expired.keys, expired.revoked) == ("expired", 0, 1)


async def test_a_connection_whose_signal_came_too_early_is_found_within_seconds(
    plant: Plant,
) -> None:
    call = plant.device()
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(call)
        await plant.waiting(handle)
        await connect_device(plant.owner, plant.tenant_id, call.device_id)
    assert (await handle.result()).stage is Stage.ACTIVE
    run = await handle.describe()
    assert run.close_time is not None
    assert run.close_time - run.start_time < timedelta(seconds=30)


async def test_a_connection_whose_signal_was_lost_is_found_at_the_reminder(plant: Plant) -> None:
    call = plant.device(remind_after=4.0)
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(call)
        await plant.waiting(handle)
        await connect_device(plant.owner, plant.tenant_id, call.device_id)
    assert (await handle.result()).stage is Stage.ACTIVE
    assert await plant.events(call.device_id, REMINDER) == []
    assert (await plant.state(call.device_id)).lifecycle == "active"


async def test_a_connection_whose_signal_was_lost_is_found_at_the_expiry(plant: Plant) -> None:
    call = plant.device(remind_after=0.0, expire_after=3600.0)
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(call)
        await eventually(lambda: plant.events(call.device_id, REMINDER))
        await connect_device(plant.owner, plant.tenant_id, call.device_id)
    assert (await handle.result()).stage is Stage.ACTIVE
    state = await plant.state(call.device_id)
    assert (state.lifecycle, state.keys) == ("active", 1)


async def test_an_expired_device_loses_keys_that_it_was_given_meanwhile(
    plant: Plant,
) -> None:
    call = plant.device()
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(call)
        await plant.waiting(handle)
        async with plant.owner.transaction(plant.tenant_id) as session:
            digest = device_key_digest(new_device_key())
            await store_credential(session, plant.tenant_id, call.device_id, digest)
    assert (await handle.result()).stage is Stage.EXPIRED
    state = await plant.state(call.device_id)
    assert (state.keys, state.revoked) == (0, 2)


async def test_a_cancelled_provisioning_takes_back_what_it_gave(plant: Plant) -> None:
    call = plant.device()
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(call)
        await plant.waiting(handle)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    state = await plant.state(call.device_id)
    assert (state.lifecycle, state.keys, state.revoked) == ("registered", 0, 1)


async def test_a_provisioning_cancelled_at_once_leaves_no_valid_key(plant: Plant) -> None:
    call = plant.device()
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(call)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    try:
        state = await plant.state(call.device_id)
    except LookupError:
        return  # cancelled before anything was written
    assert (state.lifecycle, state.keys) == ("registered", 0)


async def test_a_cancelled_provisioning_takes_nothing_from_a_connected_device(
    plant: Plant,
) -> None:
    call = plant.device()
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(call)
        await plant.waiting(handle)
        await connect_device(plant.owner, plant.tenant_id, call.device_id)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    state = await plant.state(call.device_id)
    assert (state.lifecycle, state.keys) == ("active", 1)


async def test_an_expired_device_can_be_provisioned_again(plant: Plant) -> None:
    call = plant.device()
    assert (await (await plant.provision(call)).result()).stage is Stage.EXPIRED
    again = plant.device().model_copy(update={"device_id": call.device_id, "name": call.name})
    with plant.environment.auto_time_skipping_disabled():
        handle = await plant.provision(again)
        await plant.waiting(handle)
        state = await plant.state(call.device_id)
        assert (state.lifecycle, state.keys, state.revoked) == ("pending", 1, 1)
        await handle.terminate()


async def test_the_profile_gives_what_is_desired_and_the_device_overrides_it(
    plant: Plant,
) -> None:
    async with plant.owner.transaction(plant.tenant_id) as session:
        profile = await session.get(DeviceProfile, plant.profile_id)
        assert profile is not None
        profile.configuration = {"desired": {"interval": 60, "unit": "C"}}
    call = plant.device(desired={"interval": 5})
    await (await plant.provision(call)).result()
    assert (await plant.state(call.device_id)).desired == {"interval": 5, "unit": "C"}


async def test_a_desired_state_that_was_changed_meanwhile_stays(plant: Plant) -> None:
    call = plant.device(desired={"interval": 5})
    assert (await (await plant.provision(call)).result()).stage is Stage.EXPIRED
    again = plant.device(desired={"interval": 9}).model_copy(
        update={"device_id": call.device_id, "name": call.name}
    )
    await (await plant.provision(again)).result()
    assert (await plant.state(call.device_id)).desired == {"interval": 5}


@pytest.mark.parametrize("fault", ["profile", "name", "key"])
async def test_what_cannot_be_registered_fails_with_a_reason(plant: Plant, fault: str) -> None:
    call = plant.device()
    other = await make_device(plant.owner, plant.tenant_id, plant.profile_id, name="taken")
    match fault:
        case "profile":
            change, code = {"profile_id": uuid4()}, "not_found"
        case "name":
            change, code = {"name": "taken"}, "conflict"
        case _:
            digest = plant.device().key_sha256
            held = plant.device().model_copy(
                update={"key_sha256": digest, "device_id": other.id, "name": "taken"}
            )
            await (await plant.provision(held)).result()
            change, code = {"key_sha256": digest}, "conflict"
    handle = await plant.provision(call.model_copy(update=change))
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, ActivityError)
    assert isinstance(failure.value.cause.cause, ApplicationError)
    assert failure.value.cause.cause.type == code
    assert (await handle.query("state", result_type=ProvisioningState)).stage is Stage.FAILED


def _kind(text: str) -> str:
    if not text.startswith("{"):
        return text
    event = json.loads(text)
    return event["lifecycle"] if event["type"] == "device_lifecycle" else event["type"]
