"""Makes tenants and what lives in them, straight in the database."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from core.crypto import device_key_digest, new_device_key
from core.db.session import Database
from core.db.tables import Device, DeviceCredential, DeviceProfile, Organization, Tenant


@dataclass(frozen=True, slots=True)
class MadeDevice:
    """A device and its key in the clear."""

    id: UUID
    key: str


async def make_tenant(owner: Database, name: str = "Test") -> UUID:
    """Return a new tenant in an organization of its own."""
    async with owner.transaction(None) as session:
        organization = Organization(name=name)
        session.add(organization)
        await session.flush()
        tenant = Tenant(
            organization_id=organization.id, name=name, subdomain=f"t-{uuid4().hex[:12]}"
        )
        session.add(tenant)
        return tenant.id


async def make_profile(owner: Database, tenant_id: UUID, name: str = "sensor") -> UUID:
    """Return a new device profile."""
    async with owner.transaction(tenant_id) as session:
        profile = DeviceProfile(tenant_id=tenant_id, name=name)
        session.add(profile)
        return profile.id


async def make_device(
    owner: Database,
    tenant_id: UUID,
    profile_id: UUID,
    name: str | None = None,
    lifecycle: str = "active",
) -> MadeDevice:
    """Return a new device with a key."""
    key = new_device_key()
    async with owner.transaction(tenant_id) as session:
        device = Device(
            tenant_id=tenant_id,
            profile_id=profile_id,
            name=name or f"device-{uuid4().hex[:8]}",
            lifecycle=lifecycle,
        )
        session.add(device)
        await session.flush()
        session.add(
            DeviceCredential(
                tenant_id=tenant_id, device_id=device.id, key_sha256=device_key_digest(key)
            )
        )
        return MadeDevice(device.id, key)
