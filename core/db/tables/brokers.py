"""The broker processes of an installation."""

from sqlmodel import Field

from core.db.columns import UUID, Instant, Table, moment


class BrokerInstance(Table, table=True):
    """One broker process, of no tenant.

    Attributes:
        name: Host and metrics port; who starts there again takes the row over.
        id: Of this run of it; devices that are online name it.
        heartbeat_at: When it was alive last; a row that is too old is deleted by the others.
    """

    __tablename__ = "broker_instances"

    name: str = Field(max_length=255, primary_key=True)
    id: UUID
    heartbeat_at: Instant = moment(now=True)
