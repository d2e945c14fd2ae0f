"""Imports of files: forms and answers."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from api.schemas import Form, Pagination, View
from core.imports.mapping import ImportMapping

ImportStatus = Literal["uploaded", "running", "completed", "failed", "cancelled"]


class ImportView(View):
    """A file of measurements and how far its import is.

    Attributes:
        size: Bytes.
        rows_read: Rows that are dealt with: stored, known already, or refused.
        stored: With `fire_triggers`, known ones are among them.
        duplicates: Rows that were stored before.
        fraction: Share of the file that is dealt with, 0 to 1.
        error: Why it failed.
    """

    id: UUID
    filename: str
    format: Literal["csv", "parquet"]
    size: int
    columns: list[str]
    mapping: ImportMapping | None
    fire_triggers: bool
    status: ImportStatus
    rows_read: int
    stored: int
    duplicates: int
    refused: int
    fraction: float
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class ImportList(View):
    """A page of imports, newest first."""

    imports: list[ImportView]
    pagination: Pagination


class PreviewForm(Form):
    """What is tried on the first rows."""

    mapping: ImportMapping


class StartForm(Form):
    """How a file is imported."""

    mapping: ImportMapping
    fire_triggers: bool = Field(
        default=False, description="Let triggers judge the measurements as if they came now."
    )


class RowFault(View):
    """What is wrong with a row.

    Attributes:
        row: Its number; the first after the header is 1.
        column: Which column is at fault; "" is the row as a whole.
    """

    row: int
    column: str
    code: str
    message: str


class PreviewedRow(View):
    """A row as it would be stored."""

    row: int
    device_id: UUID
    timestamp: datetime
    metrics: dict[str, float | None]


class Preview(View):
    """What the first rows of a file would come to."""

    rows: int = Field(description="Rows that were looked at, 1,000 at most.")
    good: int
    faults: list[RowFault]
    sample: list[PreviewedRow]


def describe_file() -> dict[str, Any]:
    """Describe the body of an upload."""
    schema = {"type": "string", "format": "binary"}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": schema}},
        }
    }
