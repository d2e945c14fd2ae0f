"""MQTT sessions: what the server remembers of a client, and for how long.

A session that its client asked to keep is written to the database (`broker.mqtt.router` and the
connection note the changes, which are committed with the messages they belong to); any other ends
with its connection. Commands and the desired twin are not queued here: they are in the database,
and are looked up when the device is there.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID, uuid4

import msgspec

from broker.ingest.batching import AckTarget
from broker.mqtt.outbound import Outbox
from core.db.repositories.mqtt_sessions import SessionRow

if TYPE_CHECKING:
    from broker.mqtt.router import Space

MAX_FILTERS: Final = 32
"""Subscriptions of a session."""
MAX_RECEIVED: Final = 1000
"""QoS 2 messages of a session between PUBLISH and PUBREL."""

_encode: Final = msgspec.json.Encoder().encode


class Current(AckTarget, Protocol):
    """The connection that has a session."""

    @property
    def choked(self) -> bool:
        """Whether the client is slow to take what was written."""
        ...

    def write(self, data: bytes) -> None:
        """Write without waiting."""
        ...


class Session:
    """One session.

    Attributes:
        key: Its name among all sessions: device and client id, so that no device can take over
            another's.
        id: In the database; None when it ends with its connection.
        filters: Subscriptions and their granted QoS.
        shared: Those to what others publish, which are in the tenant's tree.
        received: QoS 2 messages between PUBLISH and PUBREL; True once committed.
        current: The connection that has it.
        away_since: When its connection ended, by the clock.
        ended: It is no more.
    """

    __slots__ = (
        "away_since",
        "current",
        "device_id",
        "ended",
        "filters",
        "id",
        "key",
        "outbox",
        "received",
        "shared",
        "space",
    )

    def __init__(self, key: str, device_id: UUID, space: Space, *, lasting: bool) -> None:
        self.key = key
        self.device_id = device_id
        self.space = space
        self.id: UUID | None = uuid4() if lasting else None
        self.filters: dict[str, int] = {}
        self.shared: frozenset[str] = frozenset()
        self.received: dict[int, bool] = {}
        self.outbox: Outbox | None = None
        self.current: Current | None = None
        self.away_since = time.time()
        self.ended = False

    @classmethod
    def restored(cls, row: SessionRow, space: Space) -> Session:
        """Return a session as the database has it."""
        session = cls(session_key(row.device_id, row.client_id), row.device_id, space, lasting=True)
        session.id = row.id
        stored = msgspec.json.decode(row.filters, type=dict[str, tuple[int, bool]])
        session.filters = {topic_filter: qos for topic_filter, (qos, _) in stored.items()}
        session.shared = frozenset(f for f, (_, shared) in stored.items() if shared)
        if row.away_since is not None:
            session.away_since = row.away_since.timestamp()
        return session

    def row(self) -> SessionRow:
        """Return what the database is to have when it begins."""
        assert self.id is not None
        client_id = self.key.partition("/")[2]
        return SessionRow(self.id, self.space.tenant_id, self.device_id, client_id, "{}", None)

    def written_filters(self) -> str:
        """Return the subscriptions as the database has them."""
        stored = {f: (qos, f in self.shared) for f, qos in self.filters.items()}
        return _encode(stored).decode()

    def subscribe(self, topic_filter: str, qos: int, *, shared: bool) -> None:
        """Add a subscription, or replace it."""
        self.filters[topic_filter] = qos
        if shared:
            self.shared |= {topic_filter}
            self.space.tree.add(topic_filter, self, qos)

    def unsubscribe(self, topic_filter: str) -> None:
        """Drop a subscription, if there is one."""
        if self.filters.pop(topic_filter, None) is not None and topic_filter in self.shared:
            self.shared -= {topic_filter}
            self.space.tree.remove(topic_filter, self)

    def hear(self) -> None:
        """Put its subscriptions into the tenant's tree."""
        for topic_filter in self.shared:
            self.space.tree.add(topic_filter, self, self.filters[topic_filter])

    def unhear(self) -> None:
        """Take its subscriptions out of the tenant's tree."""
        for topic_filter in self.shared:
            self.space.tree.remove(topic_filter, self)

    def owed(self) -> Outbox:
        """Return the outbox, made at the first call."""
        if self.outbox is None:
            self.outbox = Outbox()
        return self.outbox

    def pump(self) -> None:
        """Send what waits, as far as the client takes it."""
        current = self.current
        if self.outbox is not None and current is not None and not current.choked:
            self.outbox.pump(current.write)

    def left(self, at: datetime) -> None:
        """Note that its connection ended."""
        self.current = None
        self.away_since = at.timestamp()
        if self.outbox is not None:
            self.outbox.rewind()


def session_key(device_id: UUID, client_id: str) -> str:
    """Return the name of a session among all."""
    return f"{device_id}/{client_id}"
