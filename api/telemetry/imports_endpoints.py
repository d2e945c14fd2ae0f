"""`/api/v1/telemetry/imports`."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from api.deps import PageDep, ServicesDep, WorkDep, WorkFactoryDep
from api.openapi import GUARDED, problems
from api.schemas import SearchText
from api.security.permissions import requires
from api.telemetry import imports
from api.telemetry.imports_schemas import (
    ImportList,
    ImportStatus,
    ImportView,
    Preview,
    PreviewForm,
    StartForm,
    describe_file,
)

router = APIRouter(prefix="/api/v1/telemetry/imports", tags=["telemetry"], responses=GUARDED)

_READ = requires("telemetry:read")
_WRITE = requires("telemetry:write")


@router.post("", status_code=201, dependencies=[_WRITE], openapi_extra=describe_file())
async def upload_import(
    work: WorkFactoryDep,
    services: ServicesDep,
    request: Request,
    filename: Annotated[SearchText, Query(description="What people know the file by.")],
    file_format: Annotated[Literal["csv", "parquet"], Query(alias="format")] = "csv",
) -> ImportView:
    """Upload a file of measurements, CSV or Parquet; nothing is stored before the start."""
    return await imports.upload(services, work, filename, file_format, request.stream())


@router.get("", dependencies=[_READ])
async def list_imports(
    work: WorkDep, page: PageDep, status: ImportStatus | None = None
) -> ImportList:
    """List imports, newest first."""
    return await imports.page(work, status, page)


@router.get("/{import_id}", dependencies=[_READ], responses=problems(404))
async def get_import(work: WorkDep, import_id: UUID) -> ImportView:
    """Tell how far an import is."""
    return await imports.get(work, import_id)


@router.post("/{import_id}/preview", dependencies=[_WRITE], responses=problems(404, 409))
async def preview_import(
    work: WorkFactoryDep, services: ServicesDep, import_id: UUID, form: PreviewForm
) -> Preview:
    """Try a mapping on the first 1,000 rows of a file; nothing is stored."""
    return await imports.preview(services, work, import_id, form.mapping)


@router.post(
    "/{import_id}/start", status_code=202, dependencies=[_WRITE], responses=problems(404, 409)
)
async def start_import(work: WorkDep, import_id: UUID, form: StartForm) -> ImportView:
    """Import a file; it goes on by itself, whatever is restarted meanwhile."""
    return await imports.start(work, import_id, form)


@router.post("/{import_id}/cancel", dependencies=[_WRITE], responses=problems(404, 409))
async def cancel_import(work: WorkFactoryDep, services: ServicesDep, import_id: UUID) -> ImportView:
    """Stop an import; what it has stored stays."""
    async with work() as unit:
        view = await imports.cancel(unit, import_id)
    await imports.drop_file(services, import_id)
    return view


@router.get(
    "/{import_id}/refused",
    dependencies=[_READ],
    response_class=StreamingResponse,
    responses=problems(404)
    | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "CSV"}},
)
async def download_refused_rows(work: WorkFactoryDep, import_id: UUID) -> StreamingResponse:
    """Download the refused rows as CSV, with the reasons; mended, they can be imported."""
    async with work() as unit:
        view = await imports.get(unit, import_id)
    return StreamingResponse(
        imports.refused_as_csv(work, view.columns, import_id),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="refused-{import_id}.csv"'},
    )


@router.delete("/{import_id}", status_code=204, dependencies=[_WRITE], responses=problems(404, 409))
async def delete_import(work: WorkFactoryDep, services: ServicesDep, import_id: UUID) -> None:
    """Forget an import and its refused rows; what it has stored stays."""
    async with work() as unit:
        await imports.delete(unit, import_id)
    await imports.drop_file(services, import_id)
