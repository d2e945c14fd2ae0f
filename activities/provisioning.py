"""Bringing devices into service and out of it. Every activity may be repeated at will."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.notices import tell_dashboard
from activities.resources import Resources
from core import bus
from core.db.repositories import provisioning as repository
from core.db.tables import Device
from core.errors import ConflictError, NotFoundError
from core.temporal.activity_names import ProvisioningActivity
from core.temporal.contracts import DecommissioningInput, DeviceConnected, ProvisioningInput
from core.temporal.provisioning_contracts import Connection, ReminderInput, WithdrawInput


class ProvisioningActivities:
    """The provisioning family."""

    def __init__(self, resources: Resources) -> None:
        self._database = resources.database
        self._bus = resources.bus

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (
            self.register,
            self.store_credential,
            self.set_desired,
            self.await_connection,
            self.remind,
            self.activate,
            self.withdraw,
            self.decommission,
        )

    @activity.defn(name=ProvisioningActivity.REGISTER)
    async def register(self, call: ProvisioningInput) -> None:
        """Ensure that the device exists."""
        device = Device(
            id=call.device_id,
            tenant_id=call.tenant_id,
            profile_id=call.profile_id,
            name=call.name,
            location=call.location,
            labels=call.metadata,
        )
        async with self._changing(call.tenant_id) as session:
            await repository.register(session, device)

    @activity.defn(name=ProvisioningActivity.STORE_CREDENTIAL)
    async def store_credential(self, call: ProvisioningInput) -> None:
        """Let the device sign in with its key."""
        async with self._changing(call.tenant_id) as session:
            await repository.store_credential(
                session, call.tenant_id, call.device_id, bytes.fromhex(call.key_sha256)
            )

    @activity.defn(name=ProvisioningActivity.SET_DESIRED)
    async def set_desired(self, call: ProvisioningInput) -> None:
        """Give the twin its first desired state and have it sent."""
        async with self._changing(call.tenant_id) as session:
            await repository.set_first_desired(
                session, call.tenant_id, call.device_id, call.desired
            )
        # Also when nothing changed: the attempt before may have ended between commit and notice.
        await self._bus.publish(bus.DEVICE_DOWN, str(call.device_id))

    @activity.defn(name=ProvisioningActivity.AWAIT_CONNECTION)
    async def await_connection(self, call: ProvisioningInput) -> Connection:
        """Let the device be pending; tell whether it has connected already."""
        async with self._changing(call.tenant_id) as session:
            connected_at, waits = await repository.await_connection(
                session, call.tenant_id, call.device_id
            )
        if waits:
            await self._tell(call.tenant_id, call.device_id, "pending")
        return Connection(connected_at=connected_at)

    @activity.defn(name=ProvisioningActivity.REMIND)
    async def remind(self, call: ReminderInput) -> Connection:
        """Remind people of a device that has not connected, unless it has."""
        async with self._changing(call.tenant_id) as session:
            connected_at = await repository.remind(
                session, call.tenant_id, call.device_id, call.at, call.waiting_since
            )
        if connected_at is None:
            await tell_dashboard(
                self._bus,
                call.tenant_id,
                "provisioning_reminder",
                device_id=call.device_id,
                waiting_since=call.waiting_since,
            )
        return Connection(connected_at=connected_at)

    @activity.defn(name=ProvisioningActivity.ACTIVATE)
    async def activate(self, tenant_id: UUID, call: DeviceConnected) -> None:
        """Take a device that has connected into service."""
        async with self._changing(tenant_id) as session:
            await repository.activate(session, tenant_id, call.device_id, call.at)
        await self._tell(tenant_id, call.device_id, "active")

    @activity.defn(name=ProvisioningActivity.WITHDRAW)
    async def withdraw(self, call: WithdrawInput) -> Connection:
        """Take back the credential of a device that never connected."""
        async with self._changing(call.tenant_id) as session:
            connected_at = await repository.withdraw(
                session,
                call.tenant_id,
                call.device_id,
                bytes.fromhex(call.key_sha256),
                call.lifecycle,
            )
        if connected_at is None:
            await self._bus.publish(bus.DEVICE_DISCONNECT, str(call.device_id))
            await self._tell(call.tenant_id, call.device_id, call.lifecycle)
        return Connection(connected_at=connected_at)

    @activity.defn(name=ProvisioningActivity.DECOMMISSION)
    async def decommission(self, call: DecommissioningInput) -> None:
        """Revoke every credential of the device and drop its live connection."""
        async with self._changing(call.tenant_id) as session:
            await repository.decommission(session, call.tenant_id, call.device_id)
        # Must reach the broker: a failure here fails the attempt, and the next one tells again.
        await self._bus.publish(bus.DEVICE_DISCONNECT, str(call.device_id))
        await self._tell(call.tenant_id, call.device_id, "decommissioned")

    @asynccontextmanager
    async def _changing(self, tenant_id: UUID) -> AsyncGenerator[AsyncSession]:
        """Run one unit of work; what no repetition can mend is not retried."""
        try:
            async with self._database.transaction(tenant_id) as session:
                yield session
        except (ConflictError, NotFoundError) as error:
            raise ApplicationError(error.detail, type=error.code, non_retryable=True) from error

    async def _tell(self, tenant_id: UUID, device_id: UUID, lifecycle: str) -> None:
        await tell_dashboard(
            self._bus, tenant_id, "device_lifecycle", device_id=device_id, lifecycle=lifecycle
        )
