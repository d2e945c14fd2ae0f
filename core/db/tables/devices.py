"""The fleet: profiles, devices, credentials, twins, commands, events."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from core.db.columns import (
    UUID,
    Document,
    Instant,
    Table,
    document,
    moment,
    reference,
    tenant_key,
    uuid_key,
)


class DeviceProfile(Table, table=True):
    """What devices of one type have in common (`type` in the API).

    `configuration` holds `desired` (the twin's first desired state), `metrics` and `derived`
    (`core.profiles.configuration`), and `prediction` (`mlops.inference.profile`).
    """

    __tablename__ = "device_profiles"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name"),)

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    name: str = Field(max_length=100)
    description: str = Field(default="", max_length=500)
    configuration: Document = document()
    created_at: Instant = moment(now=True)


class Device(Table, table=True):
    """One device.

    Attributes:
        status: online, offline, warning or error.
        lifecycle: registered, pending (waits for its first connection), active, expired (never
            connected in time), or decommissioned.
        site: Where it belongs, for rules and filters.
        broker_id: The broker process that it is connected to (`BrokerInstance.id`).
        dead_letters_dropped: How many of its dead letters have been deleted to bound their number.
    """

    __tablename__ = "devices"
    __table_args__ = (
        sa.CheckConstraint("status in ('online', 'offline', 'warning', 'error')", "status"),
        sa.CheckConstraint(
            "lifecycle in ('registered', 'pending', 'active', 'expired', 'decommissioned')",
            "lifecycle",
        ),
        # The name of a device out of service may be given to another.
        sa.Index(
            "ix_devices_name_in_service",
            "tenant_id",
            "name",
            unique=True,
            postgresql_where=sa.text("lifecycle <> 'decommissioned'"),
        ),
        sa.Index("ix_devices_tenant_name", "tenant_id", "name"),
        sa.Index("ix_devices_metadata", "metadata", postgresql_using="gin"),
        sa.Index("ix_devices_tenant_status", "tenant_id", "status"),
        sa.Index("ix_devices_tenant_site", "tenant_id", "site"),
        sa.Index("ix_devices_tags", "tags", postgresql_using="gin"),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    profile_id: UUID = reference("device_profiles.id", ondelete="RESTRICT")
    name: str = Field(max_length=255)
    status: str = Field(default="offline", sa_column_kwargs={"server_default": "offline"})
    lifecycle: str = Field(default="registered", sa_column_kwargs={"server_default": "registered"})
    location: Document | None = document(None)
    # `metadata` is SQLModel's own attribute, hence the other name in Python.
    labels: Document = Field(
        default_factory=dict,
        sa_column=sa.Column(
            "metadata",
            JSONB,
            nullable=False,
            server_default=sa.text("'{}'"),
        ),
    )
    site: str | None = Field(default=None, max_length=100)
    tags: list[str] = Field(
        default_factory=list,
        sa_type=ARRAY(sa.Text),
        sa_column_kwargs={"nullable": False, "server_default": "{}"},
    )
    configuration: Document = document()
    last_seen: Instant = moment()
    connected_at: Instant = moment()
    activated_at: Instant = moment()
    broker_id: UUID | None = None
    dead_letters_dropped: int = Field(
        default=0, sa_type=sa.BigInteger, sa_column_kwargs={"server_default": "0"}
    )
    created_at: Instant = moment(now=True)
    updated_at: Instant = moment(now=True)


class DeviceCredential(Table, table=True):
    """What a device signs in with: a key or a client certificate; the one digest it has is unique.

    A key is random and long, so a SHA-256 of it is stored. MQTT: username = device id, password =
    key; or username = key alone (ThingsBoard's way).

    Attributes:
        kind: key or x509.
        certificate_sha256: Of the certificate in DER, which is what a TLS handshake shows.
        subject: The certificate's, so that people can tell one from another.
    """

    __tablename__ = "device_credentials"
    __table_args__ = (
        sa.CheckConstraint(
            "(kind = 'key' AND key_sha256 IS NOT NULL AND certificate_sha256 IS NULL) OR "
            "(kind = 'x509' AND certificate_sha256 IS NOT NULL AND key_sha256 IS NULL)",
            "digest_of_its_kind",
        ),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    device_id: UUID = reference("devices.id")
    kind: str = Field(default="key", sa_column_kwargs={"server_default": "key"})
    key_sha256: bytes | None = Field(
        default=None, sa_type=sa.LargeBinary, unique=True, nullable=True
    )
    certificate_sha256: bytes | None = Field(
        default=None, sa_type=sa.LargeBinary, unique=True, nullable=True
    )
    subject: str | None = Field(default=None, max_length=500)
    created_at: Instant = moment(now=True)
    expires_at: Instant = moment()
    revoked_at: Instant = moment()


class DeviceAttributes(Table, table=True):
    """The device twin: what is wanted of the device, what it reports; versions count changes.

    Attributes:
        external_version: The newest desired version that an external broker keeps as a retained
            message; 0 where there is no such broker.
    """

    __tablename__ = "device_attributes"
    __table_args__ = (
        sa.Index(
            "ix_device_attributes_unpublished",
            "device_id",
            postgresql_where=sa.text("desired_version > external_version"),
        ),
    )

    device_id: UUID = reference("devices.id", primary_key=True, index=False)
    tenant_id: UUID = tenant_key()
    desired: Document = document()
    desired_version: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    desired_at: Instant = moment()
    external_version: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    reported: Document = document()
    reported_version: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    reported_at: Instant = moment()


class DeviceCommand(Table, table=True):
    """A command to one device and its answer; the record from which the broker delivers.

    Attributes:
        status: pending, sent (handed to the connection), answered, or expired.
    """

    __tablename__ = "device_commands"
    __table_args__ = (
        sa.CheckConstraint("status in ('pending', 'sent', 'answered', 'expired')", "status"),
        sa.Index(
            "ix_device_commands_open",
            "device_id",
            postgresql_where=sa.text("status in ('pending', 'sent')"),
        ),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    device_id: UUID = reference("devices.id")
    name: str = Field(max_length=100)
    payload: Document = document()
    status: str = Field(default="pending", sa_column_kwargs={"server_default": "pending"})
    response: Document | None = document(None)
    created_at: Instant = moment(now=True)
    sent_at: Instant = moment()
    answered_at: Instant = moment()
    expires_at: Instant = moment()


class DeviceEvent(Table, table=True):
    """Something that happened to a device, named: a failure, maintenance, an event it sent."""

    __tablename__ = "device_events"
    __table_args__ = (
        sa.UniqueConstraint("device_id", "time", "name"),
        sa.Index("ix_device_events_name", "tenant_id", "name", "time"),
    )

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    device_id: UUID = reference("devices.id", index=False)
    time: Instant = moment(now=True)
    name: str = Field(max_length=100)
    data: Document = document()
