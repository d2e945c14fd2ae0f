"""From a publisher to the subscribers of its tenant.

A message is matched at receipt and delivered when it is committed. Its rows (for sessions that
last, and the retained message) go into the part it came with, so the PUBACK of its publisher means
that every lasting session that subscribed to it has it in the database. Order is that of receipt.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from broker.ingest.batching import Part
from broker.mqtt import packets
from broker.mqtt.outbound import Outgoing
from broker.mqtt.sessions import Session
from broker.mqtt.tree import NameTree, TopicTree
from core.db.repositories.mqtt_sessions import MessageRow, RetainedRow

if TYPE_CHECKING:
    from broker.metrics import BrokerMetrics

MAX_RETAINED: Final = 10_000
"""Retained messages of a tenant; a new topic beyond them is delivered but not retained."""
MAX_RETAINED_BYTES: Final = 64 * 1024 * 1024

_Delivery = tuple[Session, Outgoing | None]


class Space:
    """The topics of one tenant: no message leaves it.

    Attributes:
        tree: Subscriptions to what others publish.
        retained: Topic → QoS and payload.
    """

    __slots__ = ("_bytes", "_names", "retained", "tenant_id", "tree")

    def __init__(self, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.tree: TopicTree[Session] = TopicTree()
        self.retained: dict[str, tuple[int, bytes]] = {}
        self._names = NameTree()
        self._bytes = 0

    def retain(self, topic: str, qos: int, payload: bytes) -> bool:
        """Keep a message for later subscribers, or clear the topic; False when there is no room."""
        old = self.retained.get(topic)
        size = self._bytes - (len(old[1]) if old is not None else 0) + len(payload)
        if payload:
            if (old is None and len(self.retained) >= MAX_RETAINED) or size > MAX_RETAINED_BYTES:
                return False
            if old is None:
                self._names.add(topic)
            self.retained[topic] = (qos, payload)
        elif old is not None:
            del self.retained[topic]
            self._names.remove(topic)
        self._bytes = size
        return True

    def retained_for(self, topic_filter: str) -> list[tuple[str, int, bytes]]:
        """Return the retained messages that a filter matches: topic, QoS, payload."""
        return [(name, *self.retained[name]) for name in self._names.matching(topic_filter)]


class Router:
    """Delivers messages among the sessions of each tenant."""

    def __init__(self, metrics: BrokerMetrics) -> None:
        self._metrics = metrics
        self._spaces: dict[UUID, Space] = {}
        self._position = 0

    def space(self, tenant_id: UUID) -> Space:
        """Return the topics of a tenant."""
        space = self._spaces.get(tenant_id)
        if space is None:
            space = self._spaces[tenant_id] = Space(tenant_id)
        return space

    def publish(
        self, part: Part, space: Space, topic: str, payload: bytes, qos: int, retain: int
    ) -> None:
        """Take a message for whoever subscribed to it, and retain it if it asks for that."""
        name = topic.encode()
        deliveries: list[_Delivery] = []
        for session, granted in space.tree.match(topic).items():
            self._take(part, deliveries, session, name, payload, min(qos, granted), retain=False)
        if retain:
            if space.retain(topic, qos, payload):
                row = RetainedRow(space.tenant_id, topic, qos, payload) if payload else None
                part.sessions().retained[space.tenant_id, topic] = row
            else:
                self._metrics.messages_dropped.labels("retained").inc()
        if deliveries:
            part.then(partial(self._deliver, name, payload, deliveries))

    def send_retained(self, part: Part, session: Session, topic_filter: str, qos: int) -> None:
        """Send what is retained for a new subscription (3.3.1.3)."""
        for topic, kept, payload in session.space.retained_for(topic_filter):
            name = topic.encode()
            deliveries: list[_Delivery] = []
            self._take(part, deliveries, session, name, payload, min(qos, kept), retain=True)
            part.then(partial(self._deliver, name, payload, deliveries, retain=True))

    def restore(self, session: Session, row: MessageRow) -> None:
        """Take back what waits for a session."""
        message = Outgoing(
            row.position, row.packet_id, row.topic.encode(), row.payload, row.qos, row.retain
        )
        session.owed().restore(message, released=row.released)
        self._position = max(self._position, row.position)

    def _take(
        self,
        part: Part,
        deliveries: list[_Delivery],
        session: Session,
        topic: bytes,
        payload: bytes,
        qos: int,
        *,
        retain: bool,
    ) -> None:
        if not qos:
            deliveries.append((session, None))
            return
        self._position = position = max(self._position + 1, time.time_ns())
        message = session.owed().reserve(position, topic, payload, qos, retain)
        if message is None:
            self._metrics.messages_dropped.labels("queue").inc()
            return
        deliveries.append((session, message))
        if session.id is not None:
            part.sessions().queued.append(
                MessageRow(
                    session.id,
                    position,
                    session.space.tenant_id,
                    message.packet_id,
                    qos,
                    topic.decode(),
                    payload,
                    retain,
                    False,
                )
            )

    def _deliver(
        self, topic: bytes, payload: bytes, deliveries: list[_Delivery], *, retain: bool = False
    ) -> None:
        plain = b""
        for session, message in deliveries:
            if session.ended:
                continue
            if message is not None:
                session.owed().ready(message)
                session.pump()
            elif session.current is None or session.current.choked:
                # QoS 0 is for those who are there and keep up.
                self._metrics.messages_dropped.labels("qos0").inc()
            else:
                plain = plain or packets.publish(topic, payload, retain=retain)
                session.current.write(plain)
