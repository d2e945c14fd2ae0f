"""A tenant with devices and one automation whose trigger watches them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from core.crypto import device_key_digest, new_device_key
from core.db.session import Database
from core.db.tables import (
    Device,
    DeviceCredential,
    DeviceProfile,
    Organization,
    Tenant,
    Workflow,
    WorkflowVersion,
)
from core.settings import Settings

METRICS = ("temperature", *(f"metric{number}" for number in range(1, 20)))
"""What a message of the load may hold, in this order."""

RULE: dict[str, Any] = {"unit": "degC", "range": [-50, 1200], "max_rate": 200, "interval": 1}
"""The profile's rule for each of them; the load keeps to it, so every value is judged and good."""

TRIGGER: dict[str, Any] = {
    "type": "telemetry",
    "device_type": "engine",
    "metric": "temperature",
    "when": {"op": ">", "value": 1000},
    "for": "PT1M",
    "hysteresis": 5,
    "cooldown": "PT10M",
}
"""Judged at every message; the load stays below it."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What was made: the devices with their keys in the clear."""

    tenant_id: UUID
    devices: list[tuple[UUID, str]]


async def make_fleet(
    settings: Settings,
    count: int,
    tenant_id: UUID | None = None,
    *,
    profiles: int = 1,
    triggers: int = 1,
) -> Fleet:
    """Make `count` devices.

    Args:
        settings: Of the platform.
        count: Devices; the first is of the first profile, and so on in turn.
        tenant_id: Whose they are; None makes a tenant.
        profiles: Profiles; the first is `engine`.
        triggers: Automations that watch each profile, with a trigger each.
    """
    owner = Database.connect(settings, "owner")
    try:
        async with owner.transaction(None) as session:
            if tenant_id is None:
                organization = Organization(name="Benchmark")
                session.add(organization)
                await session.flush()
                tenant = Tenant(
                    organization_id=organization.id, name="Benchmark", subdomain="benchmark"
                )
                session.add(tenant)
                await session.flush()
                tenant_id = tenant.id
            made: list[UUID] = []
            for number in range(profiles):
                name = f"engine-{number}" if number else "engine"
                made.append(await _profile(session, tenant_id, name, triggers))
            devices: list[tuple[UUID, str]] = []
            for number in range(count):
                device = Device(
                    tenant_id=tenant_id,
                    profile_id=made[number % profiles],
                    name=f"engine-{number}",
                    lifecycle="active",
                )
                session.add(device)
                await session.flush()
                key = new_device_key()
                session.add(
                    DeviceCredential(
                        tenant_id=tenant_id,
                        device_id=device.id,
                        key_sha256=device_key_digest(key),
                    )
                )
                devices.append((device.id, key))
            return Fleet(tenant_id, devices)
    finally:
        await owner.close()


async def _profile(session: AsyncSession, tenant_id: UUID, name: str, triggers: int) -> UUID:
    profile = DeviceProfile(
        tenant_id=tenant_id,
        name=name,
        configuration={"metrics": dict.fromkeys(METRICS, RULE)},
    )
    session.add(profile)
    for number in range(triggers):
        called = f"Overheating of {name}, {number}"
        automation = Workflow(tenant_id=tenant_id, name=called, current_version=1)
        session.add(automation)
        await session.flush()
        when = {"op": ">", "value": 1000 + number}
        trigger = TRIGGER | {"device_type": name, "when": when}
        session.add(
            WorkflowVersion(
                workflow_id=automation.id,
                version=1,
                tenant_id=tenant_id,
                definition={"name": called, "triggers": [trigger], "actions": []},
            )
        )
    return profile.id
