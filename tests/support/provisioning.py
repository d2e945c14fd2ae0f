"""Provisioning in tests: inputs, what the broker does on a first connection, the state after."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from redis.asyncio import Redis
from sqlmodel import col, select
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from core.crypto import device_key_digest, new_device_key
from core.db.session import Database
from core.db.tables import Device, DeviceAttributes, DeviceCredential, DeviceEvent
from core.temporal.contracts import DecommissioningInput, ProvisioningInput
from core.temporal.names import TaskQueue, WorkflowType, decommissioning_id, provisioning_id
from core.temporal.provisioning_contracts import ProvisioningState, Stage
from tests.support.waiting import eventually


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What the database holds of one device.

    Attributes:
        keys: How many credentials it has that are valid.
    """

    lifecycle: str
    status: str
    keys: int
    revoked: int
    desired: dict[str, Any] | None
    activated_at: datetime | None


def provisioning(tenant_id: UUID, profile_id: UUID, **more: Any) -> ProvisioningInput:
    """Return an input for a new device."""
    device_id = uuid4()
    return ProvisioningInput(
        tenant_id=tenant_id,
        device_id=device_id,
        name=f"device-{device_id.hex[:12]}",
        profile_id=profile_id,
        key_sha256=device_key_digest(new_device_key()).hex(),
        **more,
    )


async def connect_device(owner: Database, tenant_id: UUID, device_id: UUID) -> datetime:
    """Write down a first connection, as the broker does."""
    now = datetime.now(UTC)
    async with owner.transaction(tenant_id) as session:
        await session.execute(
            sa.update(Device)
            .where(col(Device.id) == device_id)
            .values(status="online", connected_at=now, last_seen=now)
        )
    return now


async def device_state(owner: Database, tenant_id: UUID, device_id: UUID) -> DeviceState:
    """Return what the database holds of a device.

    Raises:
        LookupError: It holds nothing.
    """
    async with owner.transaction(tenant_id) as session:
        device = await session.get(Device, device_id)
        if device is None:
            raise LookupError(device_id)
        credentials = list(
            await session.scalars(
                select(DeviceCredential).where(col(DeviceCredential.device_id) == device_id)
            )
        )
        twin = await session.get(DeviceAttributes, device_id)
    revoked = sum(credential.revoked_at is not None for credential in credentials)
    return DeviceState(
        lifecycle=device.lifecycle,
        status=device.status,
        keys=len(credentials) - revoked,
        revoked=revoked,
        desired=twin.desired if twin else None,
        activated_at=device.activated_at,
    )


async def next_message(subscription: Any) -> str | None:
    """Return the next message of a subscription, None when none came for a second."""
    message = await subscription.get_message(ignore_subscribe_messages=True, timeout=1)
    return message["data"].decode() if message else None


@dataclass
class Plant:
    """Workers on a server that skips time, and a profile for devices."""

    environment: WorkflowEnvironment
    owner: Database
    bus: Redis
    tenant_id: UUID
    profile_id: UUID

    def device(self, **more: Any) -> ProvisioningInput:
        """Return an input for a new device."""
        return provisioning(self.tenant_id, self.profile_id, **more)

    async def provision(self, call: ProvisioningInput) -> WorkflowHandle[Any, Any]:
        """Start the provisioning of a device."""
        return await self.environment.client.start_workflow(
            WorkflowType.DEVICE_PROVISIONING,
            call,
            id=provisioning_id(call.tenant_id, call.device_id),
            task_queue=TaskQueue.AUTOMATION,
            result_type=ProvisioningState,
        )

    async def decommission(self, device_id: UUID) -> None:
        """Decommission a device, to the end."""
        await self.environment.client.execute_workflow(
            WorkflowType.DEVICE_DECOMMISSIONING,
            DecommissioningInput(tenant_id=self.tenant_id, device_id=device_id),
            id=decommissioning_id(self.tenant_id, device_id),
            task_queue=TaskQueue.AUTOMATION,
        )

    async def waiting(self, handle: WorkflowHandle[Any, Any]) -> None:
        """Return when a provisioning waits for its device."""

        async def waits() -> bool:
            state = await handle.query("state", result_type=ProvisioningState)
            return state.stage is Stage.WAITING

        await eventually(waits)

    async def state(self, device_id: UUID) -> DeviceState:
        """Return what the database holds of a device."""
        return await device_state(self.owner, self.tenant_id, device_id)

    async def events(self, device_id: UUID, name: str) -> list[DeviceEvent]:
        """Return a device's events of one name."""
        async with self.owner.transaction(self.tenant_id) as session:
            return list(
                await session.scalars(
                    select(DeviceEvent).where(
                        col(DeviceEvent.device_id) == device_id, col(DeviceEvent.name) == name
                    )
                )
            )
