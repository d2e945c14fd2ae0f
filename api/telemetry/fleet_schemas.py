"""Answers with measurements of many devices."""

from uuid import UUID

from pydantic import Field

from api.schemas import View
from api.telemetry.schemas import LatestView


class LatestOfDevices(View):
    """The newest values of a page of devices, by device id."""

    devices: list[LatestView]
    next_after: UUID | None = Field(
        default=None, description="Ask for the next page with it; null at the end."
    )
