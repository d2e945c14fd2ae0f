"""Imports of files as the API makes them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio.client import Client, WorkflowHandle

from core.db.session import Database
from core.db.tables import TelemetryImport
from core.imports.files import file_of
from core.settings import Settings
from core.temporal.import_contracts import ImportInput, ImportResult
from core.temporal.names import TaskQueue, WorkflowType, telemetry_import_id

START = datetime(2025, 3, 1, tzinfo=UTC)


def line(number: int, device: str = "engine-1", value: object = 1) -> str:
    return f"{device},{(START + timedelta(seconds=number)).isoformat()},{value}"


async def prepare(
    settings: Settings, owner: Database, tenant_id: UUID, lines: Iterable[str], **more: Any
) -> UUID:
    """Make an import as the API does; return its id."""
    async with owner.transaction(tenant_id) as session:
        row = TelemetryImport(
            tenant_id=tenant_id,
            filename="x.csv",
            format="csv",
            size=1,
            columns=["device", "ts", "t"],
            mapping={"device_column": "device", "time_column": "ts"},
            status="running",
            **more,
        )
        session.add(row)
        await session.flush()
    path = file_of(settings.imports, row.id, "csv")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["device,ts,t", *lines]))
    return row.id


async def begin(
    client: Client, tenant_id: UUID, import_id: UUID
) -> WorkflowHandle[Any, ImportResult]:
    return await client.start_workflow(
        WorkflowType.TELEMETRY_IMPORT,
        ImportInput(tenant_id=tenant_id, import_id=import_id),
        id=telemetry_import_id(tenant_id, import_id),
        task_queue=TaskQueue.AUTOMATION,
        result_type=ImportResult,
    )
