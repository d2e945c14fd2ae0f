"""Sends a command to a device and waits for its answer."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from temporalio import activity

from activities.automation.steps import fail, parameters, perform
from activities.resources import Resources
from core import bus
from core.db.repositories import commands as repository
from core.db.tables import DeviceCommand
from core.dsl.durations import parse_duration
from core.dsl.steps import DeviceCommandParameters
from core.errors import InvalidInputError
from core.temporal.activity_names import AutomationActivity
from core.temporal.names import stable_uuid
from core.temporal.steps import DEVICE_COMMAND_TIMEOUT, StepCall, StepDone

_log = structlog.get_logger(__name__)

_LOOK_AGAIN = 2.0
"""Seconds between looks at the row: a notice on the bus may be lost, the row is the truth."""


class CommandActivities:
    """The step `device_command`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (self.device_command,)

    @activity.defn(name=AutomationActivity.DEVICE_COMMAND)
    async def device_command(self, call: StepCall) -> StepDone:
        """Send a command and return the device's answer.

        A try that follows a crash goes on waiting for the same command: its id follows from the
        step, and its time runs from the first try.
        """
        return await perform(lambda: self._command(call))

    async def _command(self, call: StepCall) -> dict[str, Any]:
        wanted = parameters(call, DeviceCommandParameters)
        if call.device_id is None:
            raise InvalidInputError("there is no device to command: give `device_id`")
        command_id = stable_uuid(call.key)
        async with self._answers(command_id) as answers:
            async with self._resources.database.transaction(call.tenant_id) as session:
                command = await repository.open_command(
                    session,
                    call.tenant_id,
                    command_id,
                    call.device_id,
                    wanted.name,
                    wanted.payload,
                    parse_duration(wanted.timeout),
                )
            while command.status in ("pending", "sent"):
                left = _seconds_left(command)
                if left <= 0:
                    command = await self._expire(call, command_id)
                    break
                activity.heartbeat()
                await self._publish(call.device_id)
                await _wait(answers, min(_LOOK_AGAIN, left))
                async with self._resources.database.transaction(call.tenant_id) as session:
                    command = await repository.get_command(session, call.tenant_id, command_id)
        if command.status != "answered":
            fail(
                DEVICE_COMMAND_TIMEOUT,
                f"the device did not answer `{wanted.name}` within {wanted.timeout}",
                retry=False,
            )
        return {"command_id": str(command_id), "response": command.response or {}}

    async def _expire(self, call: StepCall, command_id: UUID) -> DeviceCommand:
        async with self._resources.database.transaction(call.tenant_id) as session:
            await repository.expire_command(session, call.tenant_id, command_id)
            return await repository.get_command(session, call.tenant_id, command_id)

    async def _publish(self, device_id: UUID) -> None:
        try:
            await self._resources.bus.publish(bus.DEVICE_DOWN, str(device_id))
        except RedisError as error:
            _log.warning("device_not_called", device_id=str(device_id), error=str(error))

    @asynccontextmanager
    async def _answers(self, command_id: UUID) -> AsyncGenerator[PubSub | None]:
        """Listen for the answer; None when the bus is down, and looking at the row must do."""
        async with self._resources.bus.pubsub() as channel:
            try:
                await channel.subscribe(bus.command_answered(command_id))
            except RedisError as error:
                _log.warning("bus_down", error=str(error))
                yield None
            else:
                yield channel


def _seconds_left(command: DeviceCommand) -> float:
    assert command.expires_at is not None
    return (command.expires_at - datetime.now(UTC)).total_seconds()


async def _wait(answers: PubSub | None, seconds: float) -> None:
    """Wait for a notice, so long at most."""
    if answers is None:
        await asyncio.sleep(seconds)
        return
    try:
        await answers.get_message(ignore_subscribe_messages=True, timeout=seconds)
    except RedisError as error:
        _log.warning("bus_down", error=str(error))
        await asyncio.sleep(seconds)
