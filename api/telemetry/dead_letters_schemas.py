"""Dead letters of all devices: what is asked and answered."""

import base64
from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from api.schemas import Form, Pagination, SearchText, View
from api.telemetry.schemas import DeadLetterView
from core.db.tables import DeadLetter

MAX_REPLAYED = 500
"""Letters of one request."""


class DeadLetterEntry(DeadLetterView):
    """A message that could not be stored, of any device.

    Attributes:
        replayed_at, replayed_by: When it was stored after all, and which user saw to it.
    """

    device_id: UUID
    replayed_at: datetime | None
    replayed_by: UUID | None

    @classmethod
    def of(cls, row: DeadLetter) -> Self:
        """Describe a stored letter."""
        return cls.model_validate(
            row.model_dump()
            | {
                "payload": row.payload.decode("utf-8", "replace"),
                "payload_base64": base64.b64encode(row.payload).decode(),
            }
        )


class WholeDeadLetter(DeadLetterEntry):
    """One dead letter in full; `payload_base64` has its very bytes."""

    payload_base64: str


class DeadLetterPage(View):
    """A page of dead letters, newest first."""

    dead_letters: list[DeadLetterEntry]
    pagination: Pagination


class ReplayForm(Form):
    """How to replay a letter; without a payload, as it came."""

    payload: Annotated[str, Field(max_length=256 * 1024)] | None = Field(
        default=None, description="What the device should have sent."
    )


class ReplayFilter(Form):
    """Which letters; those that were replayed already are left out."""

    device_id: UUID | None = None
    code: SearchText | None = None
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None


class ReplayManyForm(Form):
    """Which letters to replay: by their ids, or all that a filter finds, oldest first."""

    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_REPLAYED)] | None = None
    filter: ReplayFilter | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_REPLAYED)] = MAX_REPLAYED

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give either `ids` or `filter`")
        return self


class RefusedAgain(View):
    """A letter that was refused again, with the reason it has now."""

    id: UUID
    code: str
    pointer: str
    message: str


class ReplayOutcome(View):
    """What became of letters; those replayed earlier, or gone, are in neither list."""

    replayed: list[UUID]
    refused: list[RefusedAgain]
