"""Alerts, as people see and handle them."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from api.alerts.schemas import AlertList, AlertView, DefinitionList, DefinitionView
from api.deps import Page
from api.schemas import Pagination
from api.work import Work
from core import bus
from core.db.repositories import alerts
from core.db.repositories.alerts import InstanceFilter, InstanceOfAlert
from core.errors import ConflictError, NotFoundError


async def definitions(work: Work, place: Page) -> DefinitionList:
    """Return a page of definitions."""
    rows, total = await alerts.definitions(work.session, offset=place.offset, limit=place.limit)
    return DefinitionList(
        definitions=[DefinitionView.model_validate(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def page(work: Work, wanted: InstanceFilter, place: Page) -> AlertList:
    """Return a page of alarms."""
    rows, total = await alerts.instances(
        work.session, wanted, offset=place.offset, limit=place.limit
    )
    return AlertList(
        alerts=[AlertView.of(*row) for row in rows], pagination=Pagination.of(place, total)
    )


async def get(work: Work, instance_id: UUID) -> AlertView:
    """Return one alarm.

    Raises:
        NotFoundError: There is none.
    """
    return AlertView.of(*await _locked(work, instance_id))


async def acknowledge(work: Work, instance_id: UUID) -> AlertView:
    """Note that somebody has seen an alarm; a second time changes nothing.

    Raises:
        NotFoundError: There is none.
        ConflictError: It is cleared.
    """
    instance, name = await _locked(work, instance_id)
    if instance.status == "cleared":
        raise ConflictError("The alarm is cleared.")
    if instance.status == "raised":
        instance.status = "acknowledged"
        instance.acknowledged_at = datetime.now(UTC)
        instance.acknowledged_by = work.caller.user_id
        await _changed(work, "alert.acknowledged", (instance, name))
    return AlertView.of(instance, name)


async def clear(work: Work, instance_id: UUID) -> AlertView:
    """End an alarm; a second time changes nothing.

    Raises:
        NotFoundError: There is none.
    """
    instance, name = await _locked(work, instance_id)
    if instance.status != "cleared":
        instance.status = "cleared"
        instance.cleared_at = datetime.now(UTC)
        await _changed(work, "alert.cleared", (instance, name))
    return AlertView.of(instance, name)


async def _changed(work: Work, action: str, row: InstanceOfAlert) -> None:
    instance, name = row
    work.audit(action, "alert", instance.id, name=name)
    event = {
        "type": "alert_cleared" if instance.status == "cleared" else "alert",
        "alert_id": instance.id,
        "device_id": instance.device_id,
        "severity": instance.severity,
        "message": instance.message,
        "timestamp": datetime.now(UTC),
        "acknowledged": instance.acknowledged_at is not None,
    }
    work.notify(bus.dashboard(work.tenant_id), msgspec.json.encode(event).decode())
    await work.session.flush()


async def _locked(work: Work, instance_id: UUID) -> InstanceOfAlert:
    row = await alerts.lock_instance(work.session, instance_id)
    if row is None:
        raise NotFoundError("There is no such alarm.")
    return row
