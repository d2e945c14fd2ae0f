"""Stores the rows of an uploaded file, however often its worker dies."""

from datetime import timedelta
from typing import Final, Literal

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError

with workflow.unsafe.imports_passed_through():
    from core.temporal.activity_names import ImportActivity
    from core.temporal.import_contracts import ImportEnd, ImportInput, ImportResult
    from core.temporal.names import TaskQueue, WorkflowType

# A beat comes every two seconds, so a killed worker is noticed soon.
_HEARTBEAT: Final = timedelta(seconds=20)
_LONGEST: Final = timedelta(days=2)

# The database or the broker may be down for hours: the import waits, and goes on where it was.
_PATIENT: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)
)


@workflow.defn(name=WorkflowType.TELEMETRY_IMPORT)
class TelemetryImport:
    """The activity does the work; how far it is stands in the database, with the rows."""

    @workflow.run
    async def run(self, call: ImportInput) -> ImportResult:
        """Store the rows, then close the import."""
        status: Literal["completed", "failed", "cancelled"] = "completed"
        error: str | None = None
        try:
            await workflow.execute_activity(
                ImportActivity.STORE,
                call,
                task_queue=TaskQueue.MAINTENANCE,
                start_to_close_timeout=_LONGEST,
                schedule_to_close_timeout=2 * _LONGEST,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_PATIENT,
                priority=Priority(fairness_key=str(call.tenant_id)),
            )
        except ActivityError as failure:
            status, error = "failed", _reason(failure)
            if isinstance(failure.cause, CancelledError):
                status, error = "cancelled", None
        return await workflow.execute_activity(
            ImportActivity.CLOSE,
            ImportEnd(
                tenant_id=call.tenant_id, import_id=call.import_id, status=status, error=error
            ),
            result_type=ImportResult,
            task_queue=TaskQueue.MAINTENANCE,
            start_to_close_timeout=timedelta(minutes=1),
            retry_policy=_PATIENT,
        )


def _reason(failure: ActivityError) -> str:
    cause = failure.cause
    return cause.message if isinstance(cause, ApplicationError) else str(cause or failure)
