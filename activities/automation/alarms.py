"""Raises and clears alarms."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from temporalio import activity

from activities.automation.steps import parameters, perform
from activities.notices import tell_dashboard
from activities.resources import Resources
from core.db.repositories import alarms as repository
from core.dsl.steps import AlarmParameters
from core.temporal.activity_names import AutomationActivity
from core.temporal.steps import StepCall, StepDone


class AlarmActivities:
    """The step `alarm`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (self.alarm,)

    @activity.defn(name=AutomationActivity.ALARM)
    async def alarm(self, call: StepCall) -> StepDone:
        """Raise or clear an alarm of a device; the same step counts once."""
        return await perform(lambda: self._change(call))

    async def _change(self, call: StepCall) -> dict[str, Any]:
        wanted = parameters(call, AlarmParameters)
        if wanted.action == "clear":
            return await self._clear(call, wanted.name)
        alarm = repository.Alarm(
            name=wanted.name,
            severity=wanted.severity,
            message=wanted.message,
            details=wanted.details,
            device_id=call.device_id,
            execution_id=call.execution_id,
            key=call.key,
        )
        async with self._resources.database.transaction(call.tenant_id) as session:
            raised = await repository.raise_alarm(session, call.tenant_id, alarm)
        await tell_dashboard(
            self._resources.bus,
            call.tenant_id,
            "alert",
            alert_id=raised.id,
            device_id=call.device_id,
            severity=wanted.severity,
            message=wanted.message,
            timestamp=datetime.now(UTC),
            acknowledged=raised.status == "acknowledged",
        )
        return {"alarm_id": str(raised.id), "count": raised.times, "status": raised.status}

    async def _clear(self, call: StepCall, name: str) -> dict[str, Any]:
        async with self._resources.database.transaction(call.tenant_id) as session:
            cleared = await repository.clear_alarm(session, call.tenant_id, name, call.device_id)
        for alarm_id in cleared:
            await tell_dashboard(
                self._resources.bus,
                call.tenant_id,
                "alert_cleared",
                alert_id=alarm_id,
                device_id=call.device_id,
                timestamp=datetime.now(UTC),
            )
        return {"cleared": len(cleared)}
