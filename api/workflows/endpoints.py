"""`/api/v1/workflows`."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Path

from api.deps import PageDep, WorkDep
from api.openapi import GUARDED, problems
from api.schemas import JsonObject, SearchText
from api.security.permissions import requires
from api.workflows import service
from api.workflows.schemas import (
    SavedWorkflow,
    ValidationView,
    VersionList,
    VersionView,
    WorkflowList,
    WorkflowSummary,
    WorkflowView,
)
from core.db.repositories.workflows import WorkflowFilter
from core.dsl.schema import json_schema

router = APIRouter(prefix="/api/v1/workflows", tags=["workflows"], responses=GUARDED)

Definition = Annotated[
    JsonObject, Body(description="A definition; its JSON Schema is at `/api/v1/workflows/schema`.")
]


@router.get("", dependencies=[requires("workflows:read")])
async def list_workflows(
    work: WorkDep, page: PageDep, enabled: bool | None = None, search: SearchText | None = None
) -> WorkflowList:
    """List automations by name."""
    return await service.page(work, WorkflowFilter(enabled=enabled, search=search), page)


@router.post(
    "", status_code=201, dependencies=[requires("workflows:create")], responses=problems(409)
)
async def create_workflow(work: WorkDep, definition: Definition) -> SavedWorkflow:
    """Create an automation; triggers start it from now on."""
    return await service.create(work, definition)


@router.post("/validate", dependencies=[requires("workflows:read")])
async def validate_workflow(work: WorkDep, definition: Definition) -> ValidationView:
    """Check a definition without storing it."""
    return ValidationView.of(await service.check(work, definition))


@router.get("/schema", dependencies=[requires("workflows:read")])
async def get_schema() -> dict[str, Any]:
    """Return the JSON Schema of definitions."""
    return json_schema()


@router.get("/{workflow_id}", dependencies=[requires("workflows:read")], responses=problems(404))
async def get_workflow(work: WorkDep, workflow_id: UUID) -> WorkflowView:
    """Return an automation with its current definition."""
    return await service.get(work, workflow_id)


@router.put(
    "/{workflow_id}", dependencies=[requires("workflows:update")], responses=problems(404, 409)
)
async def update_workflow(
    work: WorkDep, workflow_id: UUID, definition: Definition
) -> SavedWorkflow:
    """Publish a new version; `expected_version` beside the definition's members must be current.

    Runs that are going on stay with the version they were started with.
    """
    return await service.update(work, workflow_id, definition)


@router.delete(
    "/{workflow_id}",
    status_code=204,
    dependencies=[requires("workflows:delete")],
    responses=problems(404, 409),
)
async def delete_workflow(work: WorkDep, workflow_id: UUID) -> None:
    """Delete an automation with its versions and the history of its runs."""
    await service.delete(work, workflow_id)


@router.post(
    "/{workflow_id}/enable", dependencies=[requires("workflows:update")], responses=problems(404)
)
async def enable_workflow(work: WorkDep, workflow_id: UUID) -> WorkflowSummary:
    """Let triggers start an automation."""
    return await service.set_enabled(work, workflow_id, enabled=True)


@router.post(
    "/{workflow_id}/disable", dependencies=[requires("workflows:update")], responses=problems(404)
)
async def disable_workflow(work: WorkDep, workflow_id: UUID) -> WorkflowSummary:
    """Let nothing start an automation any more; runs that are going on continue."""
    return await service.set_enabled(work, workflow_id, enabled=False)


@router.get(
    "/{workflow_id}/versions", dependencies=[requires("workflows:read")], responses=problems(404)
)
async def list_versions(work: WorkDep, page: PageDep, workflow_id: UUID) -> VersionList:
    """List an automation's versions, newest first."""
    return await service.versions(work, workflow_id, page)


@router.get(
    "/{workflow_id}/versions/{version}",
    dependencies=[requires("workflows:read")],
    responses=problems(404),
)
async def get_version(
    work: WorkDep, workflow_id: UUID, version: Annotated[int, Path(ge=1, le=2**31 - 1)]
) -> VersionView:
    """Return one version of an automation."""
    return await service.version(work, workflow_id, version)
