"""What an import's workflow and its activities tell each other; rows and counts stay elsewhere."""

from typing import Literal
from uuid import UUID

from core.temporal.contracts import Contract


class ImportInput(Contract):
    """Store the rows of an uploaded file."""

    tenant_id: UUID
    import_id: UUID


class ImportEnd(Contract):
    """Close an import and drop its file."""

    tenant_id: UUID
    import_id: UUID
    status: Literal["completed", "failed", "cancelled"]
    error: str | None = None


class ImportResult(Contract):
    """What an import came to."""

    status: str
    rows_read: int = 0
    stored: int = 0
    duplicates: int = 0
    refused: int = 0
