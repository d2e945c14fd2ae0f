"""`/api/v1/audit`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter

from api.deps import PageDep, WorkDep
from api.openapi import GUARDED
from api.schemas import Pagination, SearchText, View
from api.security.permissions import requires
from core.db.repositories import audit

router = APIRouter(prefix="/api/v1/audit", tags=["audit"], responses=GUARDED)


class AuditView(View):
    """One change; without a user, the platform made it by itself."""

    id: UUID
    time: datetime
    user_id: UUID | None
    action: str
    resource_type: str
    resource_id: str | None
    details: dict[str, Any]
    address: str


class AuditList(View):
    """A page of the audit log."""

    entries: list[AuditView]
    pagination: Pagination


@router.get("", dependencies=[requires("audit:read")])
async def list_audit(
    work: WorkDep,
    page: PageDep,
    action: SearchText | None = None,
    resource_type: SearchText | None = None,
    resource_id: SearchText | None = None,
    user_id: UUID | None = None,
) -> AuditList:
    """List who did what, newest first."""
    rows, total = await audit.page(
        work.session,
        action=action,
        resource_type=resource_type,
        resource_id=resource_id,
        user_id=user_id,
        offset=page.offset,
        limit=page.limit,
    )
    return AuditList(
        entries=[AuditView.model_validate(row) for row in rows],
        pagination=Pagination.of(page, total),
    )
