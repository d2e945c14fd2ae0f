"""What the MQTT server must remember over a restart: lasting sessions and retained messages."""

import sqlalchemy as sa
from sqlmodel import Field

from core.db.columns import UUID, Document, Instant, Table, document, moment, reference, tenant_key


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger, nullable=False)


class MqttSession(Table, table=True):
    """A session of a client that asked for one that outlives its connection.

    Attributes:
        client_id: As the client said it; unique for its device.
        filters: Subscriptions: filter → granted QoS, and whether others publish there.
        away_since: When its connection ended; null while there is one.
    """

    __tablename__ = "mqtt_sessions"
    __table_args__ = (sa.UniqueConstraint("device_id", "client_id"),)

    id: UUID = Field(sa_type=sa.Uuid, primary_key=True)
    tenant_id: UUID = tenant_key()
    device_id: UUID = reference("devices.id", index=False)
    client_id: str = Field(max_length=128)
    filters: Document = document()
    away_since: Instant = moment()


class MqttMessage(Table, table=True):
    """A message of QoS 1 or 2 that a session has not acknowledged yet.

    Attributes:
        position: Their order; increases over restarts.
        packet_id: Fixed when it is queued, so that it is sent again under the same.
        released: A QoS 2 message whose PUBREC came: PUBREL is what is sent again.
    """

    __tablename__ = "mqtt_messages"

    session_id: UUID = Field(
        foreign_key="mqtt_sessions.id", ondelete="CASCADE", primary_key=True, sa_type=sa.Uuid
    )
    position: int = Field(sa_type=sa.BigInteger, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenants.id", ondelete="CASCADE")
    packet_id: int
    qos: int = Field(sa_column=_small("qos"))
    topic: str = Field(sa_type=sa.Text)
    payload: bytes = Field(sa_type=sa.LargeBinary)
    retain: bool
    released: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})


class MqttReceived(Table, table=True):
    """The id of a QoS 2 message that was received and not yet released by its sender."""

    __tablename__ = "mqtt_received"

    session_id: UUID = Field(
        foreign_key="mqtt_sessions.id", ondelete="CASCADE", primary_key=True, sa_type=sa.Uuid
    )
    packet_id: int = Field(primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenants.id", ondelete="CASCADE")


class MqttRetained(Table, table=True):
    """The retained message of a topic."""

    __tablename__ = "mqtt_retained"

    tenant_id: UUID = Field(foreign_key="tenants.id", ondelete="CASCADE", primary_key=True)
    topic: str = Field(sa_type=sa.Text, primary_key=True)
    qos: int = Field(sa_column=_small("qos"))
    payload: bytes = Field(sa_type=sa.LargeBinary)
