"""Every table, a file per domain. Importing this package fills `SQLModel.metadata`."""

from core.db.tables.alerts import Alert, AlertInstance, NotificationChannel
from core.db.tables.analytics import Anomaly, Prediction
from core.db.tables.audit import AuditEntry
from core.db.tables.automation import (
    TriggerOutbox,
    TriggerState,
    Workflow,
    WorkflowExecution,
    WorkflowStepRun,
    WorkflowVersion,
)
from core.db.tables.brokers import BrokerInstance
from core.db.tables.devices import (
    Device,
    DeviceAttributes,
    DeviceCommand,
    DeviceCredential,
    DeviceEvent,
    DeviceProfile,
)
from core.db.tables.gateways import DeviceClaim, GatewayChild, ProvisioningKey
from core.db.tables.identity import (
    Organization,
    Permission,
    Role,
    RolePermission,
    Tenant,
    User,
    UserRole,
    UserSession,
)
from core.db.tables.imports import ImportRefusal, TelemetryImport
from core.db.tables.mqtt import MqttMessage, MqttReceived, MqttRetained, MqttSession
from core.db.tables.rollups import (
    DayRollup,
    FiveMinuteRollup,
    HourRollup,
    MinuteRollup,
    RollupProgress,
    StaleHour,
)
from core.db.tables.storage import SealedTelemetry, StoragePolicy
from core.db.tables.telemetry import DeadLetter, LatestTelemetry, MetricList, Telemetry
from core.db.tables.webhooks import Webhook, WebhookAttempt, WebhookDelivery

__all__ = [
    "Alert",
    "AlertInstance",
    "Anomaly",
    "AuditEntry",
    "BrokerInstance",
    "DayRollup",
    "DeadLetter",
    "Device",
    "DeviceAttributes",
    "DeviceClaim",
    "DeviceCommand",
    "DeviceCredential",
    "DeviceEvent",
    "DeviceProfile",
    "FiveMinuteRollup",
    "GatewayChild",
    "HourRollup",
    "ImportRefusal",
    "LatestTelemetry",
    "MetricList",
    "MinuteRollup",
    "MqttMessage",
    "MqttReceived",
    "MqttRetained",
    "MqttSession",
    "NotificationChannel",
    "Organization",
    "Permission",
    "Prediction",
    "ProvisioningKey",
    "Role",
    "RolePermission",
    "RollupProgress",
    "SealedTelemetry",
    "StaleHour",
    "StoragePolicy",
    "Telemetry",
    "TelemetryImport",
    "Tenant",
    "TriggerOutbox",
    "TriggerState",
    "User",
    "UserRole",
    "UserSession",
    "Webhook",
    "WebhookAttempt",
    "WebhookDelivery",
    "Workflow",
    "WorkflowExecution",
    "WorkflowStepRun",
    "WorkflowVersion",
]
