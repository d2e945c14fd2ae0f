"""`/api/v1/telemetry/dead-letters`."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from api.deps import PageDep, ServicesDep, WorkDep, WorkFactoryDep
from api.openapi import GUARDED, problems
from api.schemas import SearchText
from api.security.permissions import requires
from api.telemetry import dead_letters
from api.telemetry.dead_letters_schemas import (
    DeadLetterPage,
    ReplayForm,
    ReplayManyForm,
    ReplayOutcome,
    WholeDeadLetter,
)
from core.db.repositories.dead_letters import DeadLetterFilter

router = APIRouter(prefix="/api/v1/telemetry/dead-letters", tags=["telemetry"], responses=GUARDED)

_READ = requires("telemetry:read")
_WRITE = requires("telemetry:write")


@router.get("", dependencies=[_READ])
async def list_all_dead_letters(
    work: WorkDep,
    page: PageDep,
    device_id: UUID | None = None,
    code: SearchText | None = None,
    start_time: Annotated[AwareDatetime | None, Query(description="Of the receipt.")] = None,
    end_time: Annotated[AwareDatetime | None, Query(description="Not part of the range.")] = None,
    replayed: bool | None = None,
) -> DeadLetterPage:
    """List messages of all devices that could not be stored, newest first."""
    wanted = DeadLetterFilter(device_id, code, start_time, end_time, replayed)
    return await dead_letters.page(work, wanted, page)


@router.post("/replay", dependencies=[_WRITE])
async def replay_dead_letters(
    work: WorkFactoryDep, services: ServicesDep, form: ReplayManyForm
) -> ReplayOutcome:
    """Replay up to 500 dead letters, oldest first; those refused again get their new reason."""
    return await dead_letters.replay_many(services, work, form)


@router.get("/{letter_id}", dependencies=[_READ], responses=problems(404))
async def get_dead_letter(work: WorkDep, letter_id: UUID) -> WholeDeadLetter:
    """Return one dead letter with its whole payload, also as bytes in base64."""
    return await dead_letters.get(work, letter_id)


@router.post("/{letter_id}/replay", dependencies=[_WRITE], responses=problems(404, 409))
async def replay_dead_letter(
    work: WorkFactoryDep, services: ServicesDep, letter_id: UUID, form: ReplayForm
) -> WholeDeadLetter:
    """Replay a dead letter as it came, or with a mended payload."""
    return await dead_letters.replay(services, work, letter_id, form.payload)


@router.delete("/{letter_id}", status_code=204, dependencies=[_WRITE], responses=problems(404))
async def delete_dead_letter(work: WorkDep, letter_id: UUID) -> None:
    """Delete a dead letter."""
    await dead_letters.delete(work, letter_id)
