"""Activity types, one enum per family; workflows name activities by these."""

from enum import StrEnum


class AutomationActivity(StrEnum):
    """Steps of automations, and the trace of their runs."""

    RECORD_STEPS = "automation.record_steps"
    RECORD_STATUS = "automation.record_status"
    PREDICT = "automation.predict"
    ALARM = "automation.alarm"
    DEVICE_COMMAND = "automation.device_command"
    HTTP_REQUEST = "automation.http_request"
    CREATE_WEBHOOK_DELIVERY = "automation.create_webhook_delivery"


class ProvisioningActivity(StrEnum):
    """Bringing devices into service and out of it."""

    REGISTER = "provisioning.register"
    STORE_CREDENTIAL = "provisioning.store_credential"
    SET_DESIRED = "provisioning.set_desired"
    AWAIT_CONNECTION = "provisioning.await_connection"
    REMIND = "provisioning.remind"
    ACTIVATE = "provisioning.activate"
    WITHDRAW = "provisioning.withdraw"
    DECOMMISSION = "provisioning.decommission"


class WebhookActivity(StrEnum):
    """Delivering webhooks."""

    ATTEMPT = "webhook.attempt"
    GIVE_UP = "webhook.give_up"


class StorageActivity(StrEnum):
    """Keeping stored measurements by the tenants' policies."""

    TENANTS = "storage.tenants"
    APPLY = "storage.apply"
    RECLAIM = "storage.reclaim"


class TrainingActivity(StrEnum):
    """Training models."""

    SNAPSHOT = "training.snapshot"
    FEATURES = "training.features"
    TRAIN = "training.train"
    EVALUATE = "training.evaluate"
    REGISTER = "training.register"
    PROMOTE = "training.promote"


class ImportActivity(StrEnum):
    """Importing files of measurements."""

    STORE = "import.store"
    CLOSE = "import.close"
