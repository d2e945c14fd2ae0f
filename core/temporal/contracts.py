"""Inputs and results of workflows. Pure data: references, never telemetry windows or secrets."""

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Contract(BaseModel):
    """Base: immutable. Unknown fields are ignored so that old workers read newer histories."""

    model_config = ConfigDict(frozen=True)


class RunInput(Contract):
    """Input of an automation run; the definition is a snapshot, never loaded again.

    Attributes:
        event_key: What started it, unique per automation.
        trigger: What expressions see as `trigger`; has `type`, and for telemetry `device_id`,
            `time`, `metric`, `value`, `values`.
        device: What expressions see as `device` (id, name, type, site, tags, metadata), if there
            is one.
    """

    tenant_id: UUID
    workflow_id: UUID
    execution_id: UUID
    version: int
    event_key: str
    definition: dict[str, Any]
    trigger: dict[str, Any] = Field(default_factory=dict)
    device: dict[str, Any] | None = None
    dry_run: bool = False


class ApprovalDecision(Contract):
    """A person's answer to an approval step, sent as the update `decide`."""

    step: str
    approved: bool
    user_id: UUID
    user_email: str
    roles: tuple[str, ...] = ()
    comment: str = ""


class ProvisioningInput(Contract):
    """Provision one device.

    Attributes:
        key_sha256: Hex digest of the device key; the key itself went to the caller only.
        desired: First desired state of the twin, sent retained.
        remind_after, expire_after: Seconds without a first connection.
    """

    tenant_id: UUID
    device_id: UUID
    name: str
    profile_id: UUID
    key_sha256: str
    location: dict[str, Any] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    desired: dict[str, Any] = Field(default_factory=dict)
    remind_after: float = 3600.0
    expire_after: float = 7 * 86400.0


class BulkProgress(Contract):
    """Answer of the query `progress`; counts of devices.

    Attributes:
        pending: Not yet started, or waiting for the first connection.
        failed: Could not be registered, or were ended from outside.
    """

    total: int
    pending: int = 0
    active: int = 0
    expired: int = 0
    failed: int = 0


class BulkProvisioningInput(Contract):
    """Provision many devices.

    Attributes:
        parallel: Devices that are registered at the same time. Those that wait for their first
            connection do not count: that can take days.
        per_run: Devices started by one run before it continues as new, to bound its history.
        progress: Carried from run to run; None in the first.
        give_up_at: When devices that nothing was heard of count as failed; carried too.
    """

    tenant_id: UUID
    bulk_id: UUID
    devices: list[ProvisioningInput]
    parallel: int = Field(default=20, ge=1)
    per_run: int = Field(default=500, ge=1)
    progress: BulkProgress | None = None
    give_up_at: AwareDatetime | None = None


class DecommissioningInput(Contract):
    """Take a device out of service: credentials revoked, live connection dropped."""

    tenant_id: UUID
    device_id: UUID


class DeviceConnected(Contract):
    """Payload of the signal `device_connected`."""

    device_id: UUID
    at: AwareDatetime


class TrainingInput(Contract):
    """Train a model of one profile.

    Attributes:
        model_name: Name in the MLflow registry.
        failure_event: Name of the device event that marks the end of life.
        holdout: Share of devices kept for evaluation.
        rul_cap: Target is min(remaining cycles, rul_cap).
    """

    tenant_id: UUID
    training_id: UUID
    profile_id: UUID
    model_name: str
    failure_event: str = "failure"
    holdout: float = 0.2
    rul_cap: int = 125
    rounds: int = 600
    seed: int = 7


class TrainingResult(Contract):
    """What a training came to."""

    model_name: str
    model_version: str
    promoted: bool
    metrics: dict[str, float]
    champion_metrics: dict[str, float] | None = None


class WebhookDeliveryInput(Contract):
    """Deliver one stored `webhook_deliveries` row until it succeeds or is given up.

    Attributes:
        first_attempt: Number of the run's first attempt; above 1 when the delivery is replayed.
    """

    tenant_id: UUID
    delivery_id: UUID
    first_attempt: int = 1
