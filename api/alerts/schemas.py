"""Answers about alerts."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from api.schemas import Pagination, View
from core.db.tables import AlertInstance

Severity = Literal["info", "warning", "critical"]
AlertStatus = Literal["raised", "acknowledged", "cleared"]


class DefinitionView(View):
    """The definition of an alarm."""

    id: UUID
    name: str
    description: str
    severity: str
    created_at: datetime


class DefinitionList(View):
    """A page of definitions."""

    definitions: list[DefinitionView]
    pagination: Pagination


class AlertView(View):
    """One alarm.

    Attributes:
        count: How often it was raised since it was clear.
    """

    id: UUID
    alert_id: UUID
    name: str
    device_id: UUID | None
    execution_id: UUID | None
    severity: Severity
    message: str
    details: dict[str, Any]
    status: AlertStatus
    acknowledged: bool
    count: int
    raised_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: UUID | None
    cleared_at: datetime | None

    @classmethod
    def of(cls, instance: AlertInstance, name: str) -> Self:
        """Describe a stored instance."""
        return cls.model_validate(
            {
                **instance.model_dump(),
                "name": name,
                "acknowledged": instance.acknowledged_at is not None,
            }
        )


class AlertList(View):
    """A page of alarms."""

    alerts: list[AlertView]
    pagination: Pagination
