"""Writes down what a run does."""

from collections.abc import Callable, Sequence
from typing import Any

from temporalio import activity

from activities.notices import tell_dashboard
from activities.resources import Resources
from core.db.repositories import automation as repository
from core.temporal.activity_names import AutomationActivity
from core.temporal.steps import RunRecord


class RecordActivities:
    """The trace and status of runs. Every write may be repeated."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (self.record_steps, self.record_status)

    @activity.defn(name=AutomationActivity.RECORD_STEPS)
    async def record_steps(self, record: RunRecord) -> None:
        """Store steps."""
        async with self._resources.database.transaction(record.tenant_id) as session:
            await repository.record_run(session, record)

    @activity.defn(name=AutomationActivity.RECORD_STATUS)
    async def record_status(self, record: RunRecord) -> None:
        """Store steps and status, and tell the dashboards."""
        async with self._resources.database.transaction(record.tenant_id) as session:
            changed = await repository.record_run(session, record)
        if changed:
            await tell_dashboard(
                self._resources.bus,
                record.tenant_id,
                "run",
                execution_id=record.execution_id,
                workflow_id=record.workflow_id,
                status=record.status,
                at=record.at,
            )
