"""All sessions of this process, and who has them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from broker.database import IngestDatabase
from broker.ingest.batching import IngestQueue, Part
from broker.mqtt.connection import Connection
from broker.mqtt.packets import Wish
from broker.mqtt.router import Router, Space
from broker.mqtt.sessions import Session, session_key
from core.db.repositories.ingest_devices import DeviceRow
from core.db.repositories.mqtt_sessions import (
    Kept,
    load_messages,
    load_received,
    load_retained,
    load_sessions,
    sessions_named,
)
from core.topics_acl import Grant, Rights

MAX_SESSIONS: Final = 8
"""Sessions of a device; the oldest gives way."""
SESSION_EXPIRY: Final = 3600.0
"""Seconds that a lasting session is kept without a connection."""


class Sessions:
    """The registry. What outlives a connection is in the database too, and loaded at the start."""

    def __init__(self, queue: IngestQueue, router: Router) -> None:
        self._queue = queue
        self._router = router
        self._sessions: dict[str, Session] = {}
        self._of_device: dict[UUID, list[Session]] = {}
        # Sessions that had a connection when they were read: of a killed process, or a living one.
        self._elsewhere: set[UUID] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    async def load(self, database: IngestDatabase) -> None:
        """Take over what the database has; before the first connection."""
        async with database.connection() as connection:
            self._restore(
                Kept(
                    await load_sessions(connection),
                    await load_messages(connection),
                    await load_received(connection),
                )
            )
            for kept in await load_retained(connection):
                self._router.space(kept.tenant_id).retain(kept.topic, kept.qos, kept.payload)

    def _restore(self, kept: Kept) -> None:
        by_id: dict[UUID, Session] = {}
        for row in kept.sessions:
            session = Session.restored(row, self._router.space(row.tenant_id))
            by_id[row.id] = session
            if row.away_since is None:
                self._elsewhere.add(row.id)
            self._add(session)
            session.hear()
        for message in kept.messages:
            if message.session_id in by_id:
                self._router.restore(by_id[message.session_id], message)
        for session_id, packet_id in kept.received:
            if session_id in by_id:
                by_id[session_id].received[packet_id] = True

    def find(self, device_id: UUID, client_id: str) -> Session | None:
        """Return the session of a client, if it is here."""
        return self._sessions.get(session_key(device_id, client_id))

    async def fetch(self, database: IngestDatabase, device_id: UUID, client_id: str) -> None:
        """Take over a session as another broker process left it, unless it is in use here.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: The database cannot be asked.
        """
        async with database.connection() as connection:
            kept = await sessions_named(connection, [(device_id, client_id)])
        mine = self.find(device_id, client_id)
        if mine is not None:
            if mine.current is not None:
                return
            self.forget(mine)
        self._restore(kept)

    def enter(
        self, row: DeviceRow, rights: Rights, wish: Wish, space: Space, part: Part
    ) -> tuple[Session, bool]:
        """Return the session that a CONNECT gets, and whether it was there before.

        A connection that has it is ended: the new one takes over [MQTT-3.1.4-2].
        """
        key = session_key(row.device_id, wish.client_id)
        old = self._sessions.get(key)
        if old is not None and isinstance(old.current, Connection):
            old.current.end("taken over by a new connection [MQTT-3.1.4-2]")
            old = self._sessions.get(key)  # unless it ended with its connection
        if old is not None and wish.clean:
            self.discard(old, part)
            old = None
        if old is not None:
            assert old.id is not None
            if _judge_again(old, rights):
                part.sessions().filters[old.id] = old.written_filters()
            part.sessions().away[old.id] = None
            self._elsewhere.discard(old.id)
            names = self._of_device[row.device_id]
            names.remove(old)
            names.append(old)
            return old, True
        session = Session(key, row.device_id, space, lasting=not wish.clean)
        if session.id is not None:
            part.sessions().opened.append(session.row())
        self._add(session)
        mine = self._of_device[row.device_id]
        if len(mine) > MAX_SESSIONS:
            oldest = mine[0]
            if isinstance(oldest.current, Connection):
                oldest.current.end("too many sessions of this device")
            if not oldest.ended:
                self.discard(oldest, part)
        return session, False

    def left(self, session: Session) -> None:
        """The connection that had it has ended."""
        now = datetime.now(UTC)
        session.left(now)
        part = Part(None, None)
        if session.id is None:
            self.discard(session, part)
            return
        part.sessions().away[session.id] = now
        self._queue.put(part)

    def discard(self, session: Session, part: Part) -> None:
        """Forget a session with all it holds, also in the database."""
        self.forget(session)
        if session.id is not None:
            part.sessions().discarded.append(session.id)

    def forget(self, session: Session) -> None:
        """Forget a session here; what the database has of it stays."""
        session.ended = True
        session.unhear()
        if session.id is not None:
            self._elsewhere.discard(session.id)
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        mine = self._of_device[session.device_id]
        mine.remove(session)
        if not mine:
            del self._of_device[session.device_id]
        session.outbox = None

    def expire(self, *, shared: bool = False) -> None:
        """Forget the lasting sessions whose clients have been away for too long.

        Where they are `shared` with other processes, one may be in use at another.
        """
        limit = time.time() - SESSION_EXPIRY
        part = Part(None, None)
        for session in list(self._sessions.values()):
            if session.current is None and session.id is not None and session.away_since < limit:
                if shared and session.id in self._elsewhere:
                    self.forget(session)
                else:
                    self.discard(session, part)
        if part.effects is not None:
            self._queue.put(part)

    def _add(self, session: Session) -> None:
        self._sessions[session.key] = session
        self._of_device.setdefault(session.device_id, []).append(session)


def _judge_again(session: Session, rights: Rights) -> bool:
    """Take away what is not granted any more; tell whether anything was."""
    denied = [f for f in session.filters if rights.grant(f) is Grant.DENIED]
    for topic_filter in denied:
        session.unsubscribe(topic_filter)
    return bool(denied)
