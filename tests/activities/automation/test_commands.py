"""The step `device_command`."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlmodel import col
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.automation.commands import CommandActivities
from activities.resources import Resources
from core import bus as channels
from core.db.session import Database
from core.db.tables import DeviceCommand
from core.temporal.names import stable_uuid
from core.temporal.steps import DEVICE_COMMAND_TIMEOUT, StepCall, StepDone
from tests.activities.automation.conftest import step_call
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually


async def stored(database: Database, call: StepCall) -> DeviceCommand | None:
    async with database.transaction(call.tenant_id) as session:
        return await session.get(DeviceCommand, stable_uuid(call.key))


async def answer(database: Database, call: StepCall, response: dict[str, Any]) -> None:
    async with database.transaction(call.tenant_id) as session:
        await session.execute(
            sa.update(DeviceCommand)
            .where(col(DeviceCommand.id) == stable_uuid(call.key))
            .values(status="answered", response=response, answered_at=sa.func.now())
        )


def running(resources: Resources, call: StepCall) -> "asyncio.Task[StepDone]":
    command = CommandActivities(resources).device_command
    return asyncio.create_task(ActivityEnvironment().run(command, call))


async def test_the_answer_of_the_device_is_the_output(
    owner: Database, resources: Resources, bus: Redis, tenant_id: UUID, device: MadeDevice
) -> None:
    async with bus.pubsub() as listener:
        await listener.subscribe(channels.DEVICE_DOWN)
        call = step_call(tenant_id, {"name": "throttle", "payload": {"to": 0.4}}, device.id)
        task = running(resources, call)

        async def called() -> bool:
            message = await listener.get_message(ignore_subscribe_messages=True, timeout=1)
            return message is not None and message["data"] == str(device.id).encode()

        await eventually(called)
    command = await stored(owner, call)
    assert command is not None
    assert (command.name, command.payload, command.status) == (
        "throttle",
        {"to": 0.4},
        "pending",
    )
    await answer(owner, call, {"ok": True})
    await bus.publish(channels.command_answered(command.id), "")
    done = await task
    assert done.output == {"command_id": str(command.id), "response": {"ok": True}}


async def test_a_repeated_try_waits_for_the_same_command_and_needs_no_notice(
    owner: Database, resources: Resources, tenant_id: UUID, device: MadeDevice
) -> None:
    call = step_call(tenant_id, {"name": "throttle"}, device.id)
    first = running(resources, call)
    await eventually(lambda: stored(owner, call))
    first.cancel()
    await asyncio.wait((first,))
    again = running(resources, call)
    await answer(owner, call, {"n": 1})
    assert (await again).output["response"] == {"n": 1}
    async with owner.transaction(tenant_id) as session:
        count = await session.scalar(
            sa.select(sa.func.count()).where(col(DeviceCommand.device_id) == device.id)
        )
    assert count == 1


async def test_a_device_that_does_not_answer_in_time_is_an_error_of_its_own(
    owner: Database, resources: Resources, tenant_id: UUID, device: MadeDevice
) -> None:
    call = step_call(tenant_id, {"name": "throttle", "timeout": "PT0.3S"}, device.id)
    with pytest.raises(ApplicationError) as caught:
        await running(resources, call)
    assert (caught.value.type, caught.value.non_retryable) == (DEVICE_COMMAND_TIMEOUT, True)
    command = await stored(owner, call)
    assert command is not None
    assert command.status == "expired"


async def test_without_a_device_the_step_fails_for_good(
    resources: Resources, tenant_id: UUID
) -> None:
    with pytest.raises(ApplicationError) as caught:
        await running(resources, step_call(tenant_id, {"name": "throttle"}))
    assert (caught.value.type, caught.value.non_retryable) == ("invalid_input", True)
