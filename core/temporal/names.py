"""Names that travel between processes: task queues, workflow and activity types, ids.

Workflows name activities by these strings, so that workflow files import no I/O.
"""

from enum import StrEnum
from typing import Final
from uuid import UUID, uuid5

# Any constant namespace does; changing it would break idempotency across a deployment.
_NAMESPACE: Final = UUID("6e0b7b7e-6a5e-4c39-9d0e-5f6f7d3a1c55")


class TaskQueue(StrEnum):
    """Where work waits; a worker process per queue."""

    AUTOMATION = "automation"
    """All workflows, and activities that only touch our own parts and are quick."""
    OUTBOUND = "outbound"
    """Calls to other people's servers: HTTP requests and webhooks."""
    TRAINING = "training"
    """Long work on data: snapshots, features, training, evaluation."""
    MAINTENANCE = "maintenance"
    """Keeping stored measurements: retention and sealing. Its process also rolls up."""


class WorkflowType(StrEnum):
    """Workflow types."""

    AUTOMATION_RUN = "AutomationRun"
    DEVICE_PROVISIONING = "DeviceProvisioning"
    BULK_PROVISIONING = "BulkProvisioning"
    DEVICE_DECOMMISSIONING = "DeviceDecommissioning"
    MODEL_TRAINING = "ModelTraining"
    WEBHOOK_DELIVERY = "WebhookDelivery"
    STORAGE_MAINTENANCE = "StorageMaintenance"
    TELEMETRY_IMPORT = "TelemetryImport"


class Signal(StrEnum):
    """Signals."""

    DEVICE_CONNECTED = "device_connected"


STORAGE_SCHEDULE: Final = "storage-maintenance"
"""Id of the schedule that applies the storage policies, and of what it starts."""

SEARCH_ATTRIBUTES: Final = {
    "IotTenant": "Keyword",
    "IotAutomation": "Keyword",
    "IotVersion": "Int",
    "IotTrigger": "Keyword",
    "IotDevice": "Keyword",
}
"""Custom search attributes and their types, as the embedded server registers them."""


def run_id(tenant_id: UUID, workflow_id: UUID, event_key: str) -> str:
    """Return the Temporal id of an automation run: one event starts one run."""
    return f"run:{tenant_id}:{workflow_id}:{event_key}"


def provisioning_id(tenant_id: UUID, device_id: UUID) -> str:
    """Return the Temporal id of a device's provisioning."""
    return f"provision:{tenant_id}:{device_id}"


def bulk_provisioning_id(tenant_id: UUID, bulk_id: UUID) -> str:
    """Return the Temporal id of a bulk provisioning."""
    return f"provision-bulk:{tenant_id}:{bulk_id}"


def decommissioning_id(tenant_id: UUID, device_id: UUID) -> str:
    """Return the Temporal id of a device's decommissioning."""
    return f"decommission:{tenant_id}:{device_id}"


def training_id(tenant_id: UUID, training_id: UUID) -> str:
    """Return the Temporal id of a model training."""
    return f"train:{tenant_id}:{training_id}"


def webhook_delivery_id(tenant_id: UUID, delivery_id: UUID) -> str:
    """Return the Temporal id of a webhook delivery."""
    return f"webhook:{tenant_id}:{delivery_id}"


def telemetry_import_id(tenant_id: UUID, import_id: UUID) -> str:
    """Return the Temporal id of an import of measurements."""
    return f"import:{tenant_id}:{import_id}"


def idempotency_key(workflow_id: str, path: str, iteration: int = 0) -> str:
    """Return the key of one side effect: Temporal workflow id, step path, iteration."""
    return f"{workflow_id}/{path}/{iteration}"


def stable_uuid(key: str) -> UUID:
    """Return the same UUID for the same key, always."""
    return uuid5(_NAMESPACE, key)
