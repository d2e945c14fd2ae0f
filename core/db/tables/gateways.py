"""Devices behind others, devices that may be claimed, and profiles that provision devices."""

import sqlalchemy as sa
from sqlmodel import Field

from core.db.columns import UUID, Instant, Table, moment, reference, tenant_key


class GatewayChild(Table, table=True):
    """A device that a gateway may speak for, under the name by which it does.

    Made when a gateway names a device that there was not, or by people, who may give a device to
    several gateways.
    """

    __tablename__ = "gateway_children"
    __table_args__ = (sa.UniqueConstraint("gateway_id", "name"),)

    gateway_id: UUID = reference("devices.id", primary_key=True, index=False)
    device_id: UUID = reference("devices.id", primary_key=True)
    tenant_id: UUID = tenant_key()
    name: str = Field(max_length=255)
    created_at: Instant = moment(now=True)


class DeviceClaim(Table, table=True):
    """A device may be claimed until `expires_at` by whoever knows its secret."""

    __tablename__ = "device_claims"

    device_id: UUID = reference("devices.id", primary_key=True, index=False)
    tenant_id: UUID = tenant_key()
    secret_sha256: bytes = Field(sa_type=sa.LargeBinary, nullable=False)
    expires_at: Instant = Field(sa_type=sa.DateTime(timezone=True), nullable=False)
    claimed_at: Instant = moment()
    claimed_by: UUID | None = Field(
        default=None, foreign_key="users.id", ondelete="SET NULL", nullable=True
    )


class ProvisioningKey(Table, table=True):
    """With key and secret of its profile a device gets credentials of its own."""

    __tablename__ = "provisioning_keys"

    profile_id: UUID = reference("device_profiles.id", primary_key=True, index=False)
    tenant_id: UUID = tenant_key()
    key: str = Field(max_length=200, unique=True)
    secret_sha256: bytes = Field(sa_type=sa.LargeBinary, nullable=False)
    created_at: Instant = moment(now=True)
