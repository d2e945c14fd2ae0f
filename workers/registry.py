"""What each task queue's worker can do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from activities.resources import ActivityFamily, Resources
from core.temporal.names import TaskQueue


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Workflows and families of activities of one queue.

    Attributes:
        parallel: Activities at the same time.
    """

    workflows: Sequence[type]
    families: Sequence[Callable[[Resources], ActivityFamily]]
    parallel: int = 100

    def activities(self, resources: Resources) -> list[Callable[..., Any]]:
        """Return the activity methods, bound to the resources of the process."""
        return [method for family in self.families for method in family(resources).activities()]


def capabilities(queue: TaskQueue) -> Capabilities:
    """Return what the worker of a queue can do.

    Each queue imports its own parts only: training's libraries take seconds and 300 MB.
    """
    match queue:
        case TaskQueue.AUTOMATION:
            return _automation()
        case TaskQueue.OUTBOUND:
            return _outbound()
        case TaskQueue.TRAINING:
            return _training()
        case TaskQueue.MAINTENANCE:
            return _maintenance()


def _automation() -> Capabilities:
    from activities.automation.alarms import AlarmActivities
    from activities.automation.commands import CommandActivities
    from activities.automation.predict import PredictActivities
    from activities.automation.record import RecordActivities
    from activities.automation.webhooks import WebhookStepActivities
    from activities.provisioning import ProvisioningActivities
    from workflows.automation_run import AutomationRun
    from workflows.bulk_provisioning import BulkProvisioning
    from workflows.device_decommissioning import DeviceDecommissioning
    from workflows.device_provisioning import DeviceProvisioning
    from workflows.model_training import ModelTraining
    from workflows.storage_maintenance import StorageMaintenance
    from workflows.telemetry_import import TelemetryImport
    from workflows.webhook_delivery import WebhookDelivery

    return Capabilities(
        workflows=(
            AutomationRun,
            BulkProvisioning,
            DeviceDecommissioning,
            DeviceProvisioning,
            ModelTraining,
            StorageMaintenance,
            TelemetryImport,
            WebhookDelivery,
        ),
        families=(
            AlarmActivities,
            CommandActivities,
            PredictActivities,
            ProvisioningActivities,
            RecordActivities,
            WebhookStepActivities,
        ),
    )


def _outbound() -> Capabilities:
    from activities.automation.http import HttpActivities
    from activities.webhooks import WebhookActivities

    return Capabilities(workflows=(), families=(HttpActivities, WebhookActivities))


def _training() -> Capabilities:
    from activities.training import TrainingActivities

    return Capabilities(workflows=(), families=(TrainingActivities,), parallel=1)


def _maintenance() -> Capabilities:
    from activities.storage import StorageActivities
    from activities.telemetry_import import ImportActivities

    return Capabilities(workflows=(), families=(ImportActivities, StorageActivities), parallel=4)
