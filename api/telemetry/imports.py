"""Files of measurements: uploaded, looked at, imported by a durable workflow."""

import asyncio
import csv
import io
import time
from collections.abc import AsyncGenerator, AsyncIterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from api.deps import Page, WorkFactory
from api.schemas import Pagination
from api.services import Services
from api.telemetry.imports_schemas import (
    ImportList,
    ImportStatus,
    ImportView,
    Preview,
    PreviewedRow,
    RowFault,
    StartForm,
)
from api.work import Work
from core.db.repositories import device_names, devices, imports
from core.db.tables import TelemetryImport
from core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from core.imports.files import Batch, FileFormat, batches, columns_of, file_of
from core.imports.mapping import ImportMapping
from core.imports.rows import Measured, Refusal, RowReader, unknown_device
from core.temporal import names
from core.temporal.import_contracts import ImportInput
from core.temporal.outbox import StartWorkflow

PREVIEWED: Final = 1000
"""Rows of a preview."""
_SAMPLE: Final = 20
_FAULTS: Final = 200
_FORGOTTEN: Final = timedelta(days=1)
"""How long a file waits to be started."""
_PAGE: Final = 500  # refused rows that are read at once
_RESOURCE: Final = "telemetry_import"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def upload(
    services: Services,
    factory: WorkFactory,
    filename: str,
    kind: FileFormat,
    content: AsyncIterable[bytes],
) -> ImportView:
    """Keep a file that comes in pieces.

    Raises:
        InvalidInputError: It is empty, or not what it claims to be.
    """
    folder = services.settings.imports
    import_id = uuid4()
    path = file_of(folder, import_id, kind)
    try:
        size = await _write(path, content)
        columns = await asyncio.to_thread(columns_of, path, kind)
        async with factory() as work:
            row = TelemetryImport(
                id=import_id,
                tenant_id=work.tenant_id,
                filename=filename,
                format=kind,
                size=size,
                columns=columns,
                created_by=work.caller.user_id,
            )
            work.session.add(row)
            await work.session.flush()
            await work.session.refresh(row)
            forgotten = await imports.forgotten(work.session, datetime.now(UTC) - _FORGOTTEN)
            work.audit("import.uploaded", _RESOURCE, import_id, filename=filename, size=size)
            view = _view(row)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    for old in forgotten:
        await _drop(folder, old)
    return view


async def page(work: Work, status: ImportStatus | None, place: Page) -> ImportList:
    """Return a page of imports, newest first."""
    rows, total = await imports.page(
        work.session, status=status, offset=place.offset, limit=place.limit
    )
    return ImportList(imports=[_view(row) for row in rows], pagination=Pagination.of(place, total))


async def get(work: Work, import_id: UUID) -> ImportView:
    """Return one import.

    Raises:
        NotFoundError: There is none.
    """
    return _view(await _found(work, import_id))


async def preview(
    services: Services, factory: WorkFactory, import_id: UUID, mapping: ImportMapping
) -> Preview:
    """Try a mapping on the first rows; nothing is stored.

    Raises:
        NotFoundError: There is no such import.
        ConflictError: It has ended, and the file is gone.
        InvalidInputError: The mapping does not fit the file.
    """
    async with factory() as work:
        row = await _found(work, import_id)
    path = file_of(services.settings.imports, import_id, row.format)
    reader = RowReader(mapping, row.columns)
    measured, refused = await asyncio.to_thread(_first_rows, path, _kind(row), reader)
    async with factory() as work:
        found = await _devices(work, mapping, measured)
    good: list[tuple[UUID, Measured]] = []
    for one in measured:
        device_id = found.get(one.device)
        if device_id is None:
            refused.append(unknown_device(one, mapping.device_column))
        else:
            good.append((device_id, one))
    refused.sort(key=lambda one: one.row)
    return Preview(
        rows=len(good) + len(refused),
        good=len(good),
        faults=[
            RowFault(row=one.row, column=one.column, code=one.code, message=one.message)
            for one in refused[:_FAULTS]
        ],
        sample=[
            PreviewedRow(
                row=one.row.number,
                device_id=device_id,
                timestamp=_EPOCH + timedelta(microseconds=one.time),
                metrics=dict(zip(one.names, one.values, strict=True)),
            )
            for device_id, one in good[:_SAMPLE]
        ],
    )


async def start(work: Work, import_id: UUID, form: StartForm) -> ImportView:
    """Let a file be imported.

    Raises:
        NotFoundError: There is no such import, or no such device as the mapping names.
        ConflictError: It was started before.
        InvalidInputError: The mapping does not fit the file.
    """
    row = await _found(work, import_id, lock=True)
    if row.status != "uploaded":
        raise ConflictError(f"The import is {row.status}.")
    RowReader(form.mapping, row.columns)
    if form.mapping.device_id is not None and not await devices.existing(
        work.session, [form.mapping.device_id]
    ):
        raise InvalidInputError(
            "The mapping names a device that is not there.",
            errors=(FieldError("/mapping/device_id", "There is no such device."),),
        )
    row.mapping = form.mapping.model_dump(mode="json")
    row.fire_triggers = form.fire_triggers
    row.status = "running"
    row.started_at = datetime.now(UTC)
    call = ImportInput(tenant_id=work.tenant_id, import_id=import_id)
    await work.enqueue(
        StartWorkflow(
            workflow_type=names.WorkflowType.TELEMETRY_IMPORT,
            workflow_id=names.telemetry_import_id(work.tenant_id, import_id),
            input=call.model_dump(mode="json"),
        )
    )
    work.audit("import.started", _RESOURCE, import_id, fire_triggers=form.fire_triggers)
    await work.session.flush()
    return _view(row)


async def cancel(work: Work, import_id: UUID) -> ImportView:
    """Stop an import; what it has stored stays. The workflow sees it at its next batch.

    Raises:
        NotFoundError: There is no such import.
        ConflictError: It has ended.
    """
    row = await _found(work, import_id, lock=True)
    if row.status not in ("uploaded", "running"):
        raise ConflictError(f"The import is {row.status}.")
    row.status = "cancelled"
    row.ended_at = datetime.now(UTC)
    work.audit("import.cancelled", _RESOURCE, import_id, rows_read=row.rows_read)
    await work.session.flush()
    return _view(row)


async def delete(work: Work, import_id: UUID) -> None:
    """Forget an import and its refused rows; what it has stored stays.

    Raises:
        NotFoundError: There is no such import.
        ConflictError: It is running.
    """
    row = await _found(work, import_id, lock=True)
    if row.status == "running":
        raise ConflictError("The import is running; cancel it first.")
    await work.session.delete(row)
    work.audit("import.deleted", _RESOURCE, import_id, filename=row.filename)


async def drop_file(services: Services, import_id: UUID) -> None:
    """Drop the file of an import that no worker reads."""
    await _drop(services.settings.imports, import_id)


async def refused_as_csv(
    factory: WorkFactory, columns: list[str], import_id: UUID
) -> AsyncGenerator[bytes]:
    """Yield the refused rows as CSV: their cells, then their number and what is wrong.

    Mended, the file can be imported with the same mapping.
    """
    yield _line([*columns, "refused_row", "refused_column", "refused_code", "refused_reason"])
    after = 0
    while True:
        async with factory() as work:
            rows = await imports.refusals(work.session, import_id, after=after, limit=_PAGE)
        if not rows:
            return
        for row in rows:
            cells = (row.cells + [""] * len(columns))[: max(len(columns), len(row.cells))]
            yield _line([*cells, str(row.row), row.column_name, row.code, row.message])
        after = rows[-1].row


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


async def _write(path: Path, content: AsyncIterable[bytes]) -> int:
    """Write a file piece by piece; return its size."""
    await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    size = 0
    file = await asyncio.to_thread(path.open, "wb")
    try:
        async for piece in content:
            size += len(piece)
            await asyncio.to_thread(file.write, piece)
    finally:
        await asyncio.to_thread(file.close)
    return size


async def _drop(folder: Path, import_id: UUID) -> None:
    for kind in ("csv", "parquet"):
        await asyncio.to_thread(file_of(folder, import_id, kind).unlink, missing_ok=True)


def _first_rows(
    path: Path, kind: FileFormat, reader: RowReader
) -> tuple[list[Measured], list[Refusal]]:
    try:
        batch = next(batches(path, kind, after=0, size=PREVIEWED), Batch([], 1.0))
    except FileNotFoundError as error:
        raise ConflictError("The file is gone: the import has ended.") from error
    now = time.time_ns() // 1000
    measured: list[Measured] = []
    refused: list[Refusal] = []
    for row in batch.rows:
        one = reader.read(row, now)
        (measured if isinstance(one, Measured) else refused).append(one)  # type: ignore[arg-type]
    return measured, refused


async def _devices(
    work: Work, mapping: ImportMapping, measured: list[Measured]
) -> dict[str | None, UUID]:
    if mapping.device_id is not None:
        there = await devices.existing(work.session, [mapping.device_id])
        return dict.fromkeys([None], mapping.device_id) if there else {}
    wanted = {one.device for one in measured if one.device is not None}
    found = await device_names.by(work.session, mapping.device_by, wanted)
    return {name: device_id for name, device_id in found.items()}  # noqa: C416  (a wider key)


def _view(row: TelemetryImport) -> ImportView:
    return ImportView.model_validate(row)


def _kind(row: TelemetryImport) -> FileFormat:
    return "csv" if row.format == "csv" else "parquet"


async def _found(work: Work, import_id: UUID, *, lock: bool = False) -> TelemetryImport:
    row = await imports.get(work.session, import_id, lock=lock)
    if row is None:
        raise NotFoundError("There is no such import.")
    return row
