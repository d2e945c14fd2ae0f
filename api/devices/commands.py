"""Commands to devices and their answers."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import structlog
from pydantic import Field, StringConstraints
from redis.exceptions import RedisError

from api.deps import Page, WorkFactory
from api.devices.service import found, in_service
from api.schemas import Form, JsonObject, Pagination, View
from api.services import Services
from api.work import Work
from core import bus
from core.db.repositories import device_control
from core.db.tables import DeviceCommand
from core.errors import NotFoundError

MAX_WAIT = 30.0
_LOOK = 1.0  # seconds between looks at the database while no notice comes

logger = structlog.get_logger(__name__)

CommandStatus = Literal["pending", "sent", "answered", "expired"]
CommandName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,100}$")]
"""A level of an MQTT topic: no separator, no wildcard."""


class CommandForm(Form):
    """A new command."""

    name: CommandName
    payload: JsonObject = Field(default_factory=dict)
    expires_in: Annotated[
        float, Field(ge=1, le=7 * 86400, description="Seconds the device has to fetch it.")
    ] = 60.0


class CommandView(View):
    """A command and, once it is there, its answer."""

    id: UUID
    device_id: UUID
    name: str
    payload: dict[str, Any]
    status: CommandStatus
    response: dict[str, Any] | None
    created_at: datetime
    sent_at: datetime | None
    answered_at: datetime | None
    expires_at: datetime | None

    @classmethod
    def of(cls, command: DeviceCommand) -> Self:
        """Describe a stored command; whether one is over is seen by the clock, not by a sweep."""
        view = cls.model_validate(command)
        over = view.expires_at is not None and view.expires_at <= datetime.now(UTC)
        if over and view.status in ("pending", "sent"):
            view.status = "expired"
        return view


class CommandList(View):
    """A page of commands."""

    commands: list[CommandView]
    pagination: Pagination


async def send(work: Work, device_id: UUID, form: CommandForm) -> CommandView:
    """Store a command and let the broker deliver it.

    Raises:
        NotFoundError: There is no such device.
        ConflictError: It is out of service.
    """
    await in_service(work, device_id)
    command = device_control.add_command(
        work.session,
        tenant_id=work.tenant_id,
        device_id=device_id,
        name=form.name,
        payload=form.payload,
        expires_at=datetime.now(UTC) + timedelta(seconds=form.expires_in),
    )
    await work.session.flush()
    await work.session.refresh(command)
    work.audit("device.command_sent", "device", device_id, command=str(command.id), name=form.name)
    work.notify(bus.DEVICE_DOWN, str(device_id))
    return CommandView.of(command)


async def send_and_wait(
    services: Services, factory: WorkFactory, device_id: UUID, form: CommandForm, seconds: float
) -> CommandView:
    """Send a command and wait for the answer; without one in time, return it as it stands.

    No transaction is held while waiting.

    Raises:
        NotFoundError: There is no such device.
        ConflictError: It is out of service.
    """
    async with factory() as work:
        view = await send(work, device_id, form)
    deadline = time.monotonic() + min(seconds, form.expires_in)
    async with services.bus.pubsub(ignore_subscribe_messages=True) as notices:
        # The database is looked at after subscribing, so an answer in between is not missed.
        heard = await _listen(notices, bus.command_answered(view.id))
        while view.status in ("pending", "sent"):
            async with factory() as work:
                view = await get(work, device_id, view.id)
            left = deadline - time.monotonic()
            if left <= 0 or view.status not in ("pending", "sent"):
                break
            heard = await _wait(notices, min(_LOOK, left), heard)
    return view


async def _listen(notices: Any, channel: str) -> bool:
    try:
        await notices.subscribe(channel)
    except (RedisError, OSError, TimeoutError) as error:
        logger.warning("commands.bus_unavailable", error=str(error))
        return False
    return True


async def _wait(notices: Any, seconds: float, heard: bool) -> bool:
    """Wait for a notice; without the bus, for a moment."""
    if heard:
        try:
            await notices.get_message(timeout=seconds)
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("commands.bus_unavailable", error=str(error))
        else:
            return True
    await asyncio.sleep(seconds)
    return False


async def get(work: Work, device_id: UUID, command_id: UUID) -> CommandView:
    """Return one command.

    Raises:
        NotFoundError: There is no such command of this device.
    """
    command = await device_control.get_command(work.session, device_id, command_id)
    if command is None:
        raise NotFoundError("There is no such command.")
    return CommandView.of(command)


async def page(
    work: Work, device_id: UUID, status: CommandStatus | None, place: Page
) -> CommandList:
    """Return a page of a device's commands.

    Raises:
        NotFoundError: There is no such device.
    """
    await found(work, device_id)
    rows, total = await device_control.commands(
        work.session, device_id, status=status, offset=place.offset, limit=place.limit
    )
    return CommandList(
        commands=[CommandView.of(row) for row in rows], pagination=Pagination.of(place, total)
    )
