"""Dead letters of all devices: found, replayed, deleted."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from api.deps import Page, WorkFactory
from api.schemas import Pagination
from api.services import Services
from api.telemetry.dead_letters_schemas import (
    DeadLetterEntry,
    DeadLetterPage,
    RefusedAgain,
    ReplayManyForm,
    ReplayOutcome,
    WholeDeadLetter,
)
from api.work import Work
from core import topics
from core.db.repositories import dead_letters
from core.db.repositories.dead_letters import DeadLetterFilter
from core.db.tables import DeadLetter
from core.errors import ConflictError, InvalidInputError, NotFoundError
from core.intake import NOT_OF_PAYLOAD, Message, Outcome, RefusedMessageError

_RESOURCE: Final = "dead_letter"
_BATCH: Final = 50
"""Letters handed over at once: each may be as long as the longest payload."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def page(work: Work, wanted: DeadLetterFilter, place: Page) -> DeadLetterPage:
    """Return a page of letters, newest first."""
    rows, total = await dead_letters.page(
        work.session, wanted, offset=place.offset, limit=place.limit
    )
    return DeadLetterPage(
        dead_letters=[DeadLetterEntry.of(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def get(work: Work, letter_id: UUID) -> WholeDeadLetter:
    """Return one letter in full.

    Raises:
        NotFoundError: There is none.
    """
    return WholeDeadLetter.of(await _found(work, letter_id))


async def replay(
    services: Services, factory: WorkFactory, letter_id: UUID, payload: str | None
) -> WholeDeadLetter:
    """Let a letter go the way of a message once more, as it came or mended.

    Raises:
        NotFoundError: There is none.
        ConflictError: It has been replayed.
        RefusedMessageError: It is refused again. As it came, it now has this reason; a mended
            payload that is refused leaves the letter as it was.
        UnavailableError: The broker or the database is down, or overloaded.
    """
    async with factory() as work:
        letter = await _found(work, letter_id)
    if letter.replayed_at is not None:
        raise ConflictError("The dead letter has been replayed.")
    mended = None if payload is None else _bytes(payload)
    (outcome,) = await services.intake.deliver(
        factory.caller.tenant_id, [_message(letter, mended)], bury=False
    )
    async with factory() as work:
        if outcome.stored:
            await _note_replayed(work, [letter], edited=mended is not None)
        elif mended is None:
            await _explain(work, letter_id, outcome)
    if not outcome.stored:
        raise RefusedMessageError(outcome)
    async with factory() as work:
        return await get(work, letter_id)


async def replay_many(
    services: Services, factory: WorkFactory, form: ReplayManyForm
) -> ReplayOutcome:
    """Let letters go the way of messages once more, oldest first.

    Raises:
        UnavailableError: The broker or the database is down, or overloaded; those replayed before
            are marked.
    """
    wanted = DeadLetterFilter(replayed=False)
    if form.filter is not None:
        asked = form.filter
        wanted = DeadLetterFilter(
            asked.device_id, asked.code, asked.start_time, asked.end_time, replayed=False
        )
    async with factory() as work:
        ids = await dead_letters.oldest(work.session, wanted, form.ids, offset=0, limit=form.limit)
    result = ReplayOutcome(replayed=[], refused=[])
    for batch in _batches(ids):
        async with factory() as work:
            letters = await dead_letters.load(work.session, batch)
        outcomes = await services.intake.deliver(
            factory.caller.tenant_id, [_message(letter) for letter in letters], bury=False
        )
        async with factory() as work:
            await _note(work, letters, outcomes, result)
    return result


async def delete(work: Work, letter_id: UUID) -> None:
    """Delete a letter.

    Raises:
        NotFoundError: There is none.
    """
    letter = await dead_letters.delete(work.session, letter_id)
    if letter is None:
        raise _missing()
    work.audit(
        "dead_letter.deleted", _RESOURCE, letter_id, device_id=letter.device_id, code=letter.code
    )


async def _note(
    work: Work,
    letters: Sequence[DeadLetter],
    outcomes: Sequence[Outcome],
    result: ReplayOutcome,
) -> None:
    stored: list[DeadLetter] = []
    for letter, outcome in zip(letters, outcomes, strict=True):
        if outcome.stored:
            stored.append(letter)
            continue
        await _explain(work, letter.id, outcome)
        result.refused.append(
            RefusedAgain(
                id=letter.id, code=outcome.code, pointer=outcome.pointer, message=outcome.message
            )
        )
    await _note_replayed(work, stored, edited=False)
    result.replayed += [letter.id for letter in stored]


async def _explain(work: Work, letter_id: UUID, reason: Outcome) -> None:
    """Give a letter its new reason, unless that is none of the payload's."""
    if reason.code in NOT_OF_PAYLOAD:
        return
    await dead_letters.explain(
        work.session,
        letter_id,
        code=reason.code,
        pointer=reason.pointer,
        message=reason.message,
    )


async def _note_replayed(work: Work, letters: Sequence[DeadLetter], *, edited: bool) -> None:
    if letters:
        ids = [letter.id for letter in letters]
        await dead_letters.mark_replayed(work.session, ids, work.caller.user_id)
    for letter in letters:
        work.audit(
            "dead_letter.replayed",
            _RESOURCE,
            letter.id,
            device_id=letter.device_id,
            edited=edited,
        )


def _message(letter: DeadLetter, mended: bytes | None = None) -> Message:
    assert letter.received_at is not None
    return Message(
        letter.device_id,
        # What the database refused has no topic any more; mended, it is telemetry.
        letter.topic or topics.telemetry(letter.device_id),
        letter.payload if mended is None else mended,
        (letter.received_at - _EPOCH) // timedelta(microseconds=1),
    )


def _bytes(payload: str) -> bytes:
    try:
        return payload.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError("The payload is no text.") from error


def _batches(ids: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


async def _found(work: Work, letter_id: UUID) -> DeadLetter:
    letter = await dead_letters.get(work.session, letter_id)
    if letter is None:
        raise _missing()
    return letter


def _missing() -> NotFoundError:
    return NotFoundError("There is no such dead letter.")
