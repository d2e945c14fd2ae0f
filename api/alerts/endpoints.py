"""`/api/v1/alerts`."""

from uuid import UUID

from fastapi import APIRouter

from api.alerts import service
from api.alerts.schemas import AlertList, AlertStatus, AlertView, DefinitionList, Severity
from api.deps import PageDep, WorkDep
from api.openapi import GUARDED, problems
from api.security.permissions import requires
from core.db.repositories.alerts import InstanceFilter

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"], responses=GUARDED)


@router.get("", dependencies=[requires("alerts:read")])
async def list_alerts(
    work: WorkDep,
    page: PageDep,
    status: AlertStatus | None = None,
    severity: Severity | None = None,
    device_id: UUID | None = None,
) -> AlertList:
    """List alarms, newest first."""
    wanted = InstanceFilter(status=status, severity=severity, device_id=device_id)
    return await service.page(work, wanted, page)


@router.get("/definitions", dependencies=[requires("alerts:read")])
async def list_definitions(work: WorkDep, page: PageDep) -> DefinitionList:
    """List alert definitions by name."""
    return await service.definitions(work, page)


@router.get("/{alert_id}", dependencies=[requires("alerts:read")], responses=problems(404))
async def get_alert(work: WorkDep, alert_id: UUID) -> AlertView:
    """Return one alarm."""
    return await service.get(work, alert_id)


@router.post(
    "/{alert_id}/acknowledge",
    dependencies=[requires("alerts:update")],
    responses=problems(404, 409),
)
async def acknowledge_alert(work: WorkDep, alert_id: UUID) -> AlertView:
    """Note that somebody has seen an alarm."""
    return await service.acknowledge(work, alert_id)


@router.post("/{alert_id}/clear", dependencies=[requires("alerts:update")], responses=problems(404))
async def clear_alert(work: WorkDep, alert_id: UUID) -> AlertView:
    """End an alarm."""
    return await service.clear(work, alert_id)
