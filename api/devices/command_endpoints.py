"""`/api/v1/devices/{device_id}/commands`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from api.deps import PageDep, ServicesDep, WorkDep, WorkFactoryDep
from api.devices import commands
from api.devices.commands import CommandForm, CommandList, CommandStatus, CommandView
from api.openapi import GUARDED, problems
from api.security.permissions import requires

router = APIRouter(
    prefix="/api/v1/devices/{device_id}/commands", tags=["devices"], responses=GUARDED
)


@router.post(
    "",
    status_code=202,
    dependencies=[requires("devices:command")],
    responses=problems(404, 409),
)
async def send_command(
    work: WorkFactoryDep,
    services: ServicesDep,
    device_id: UUID,
    form: CommandForm,
    wait: Annotated[
        float, Query(ge=0, le=commands.MAX_WAIT, description="Seconds to wait for the answer.")
    ] = 0,
) -> CommandView:
    """Send a command to a device; with `wait`, the answer is in `response` if it came in time."""
    if wait == 0:
        async with work() as unit:
            return await commands.send(unit, device_id, form)
    return await commands.send_and_wait(services, work, device_id, form, wait)


@router.get("", dependencies=[requires("devices:read")], responses=problems(404))
async def list_commands(
    work: WorkDep, page: PageDep, device_id: UUID, status: CommandStatus | None = None
) -> CommandList:
    """List a device's commands, newest first."""
    return await commands.page(work, device_id, status, page)


@router.get("/{command_id}", dependencies=[requires("devices:read")], responses=problems(404))
async def get_command(work: WorkDep, device_id: UUID, command_id: UUID) -> CommandView:
    """Return one command and, once it is there, its answer."""
    return await commands.get(work, device_id, command_id)
