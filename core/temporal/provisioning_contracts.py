"""Inputs and results of the provisioning activities, and what its workflows tell each other.

Kept apart from `contracts`: only the provisioning workflows and their activities know these.
"""

from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

from pydantic import AwareDatetime

from core.temporal.contracts import Contract

DEVICE_STAGE: Final = "device_stage"
"""Signal from a device's provisioning to the bulk it belongs to; payload `DeviceStage`."""


class Stage(StrEnum):
    """Where a device's provisioning stands."""

    REGISTERING = "registering"
    WAITING = "waiting"
    """Registered, with credentials and desired configuration; waits for the first connection."""
    ACTIVE = "active"
    EXPIRED = "expired"
    FAILED = "failed"


class ProvisioningState(Contract):
    """Answer of the query `state`.

    Attributes:
        since: When this stage began.
        reminded_at: When people were reminded of a device that does not connect.
    """

    stage: Stage
    since: AwareDatetime
    reminded_at: AwareDatetime | None = None


class DeviceStage(Contract):
    """A device of a bulk reached a stage."""

    device_id: UUID
    stage: Stage


class Connection(Contract):
    """What the database knows of the first connection."""

    connected_at: AwareDatetime | None = None


class ReminderInput(Contract):
    """Remind of a device that has not connected.

    Attributes:
        at: The workflow's time; makes a repetition of the activity the same reminder.
        waiting_since: When the wait began.
    """

    tenant_id: UUID
    device_id: UUID
    at: AwareDatetime
    waiting_since: AwareDatetime


class WithdrawInput(Contract):
    """Take back what provisioning gave to a device that never connected.

    Attributes:
        key_sha256: Hex digest of the key that is revoked.
        lifecycle: What the device becomes.
    """

    tenant_id: UUID
    device_id: UUID
    key_sha256: str
    lifecycle: Literal["registered", "expired"]
