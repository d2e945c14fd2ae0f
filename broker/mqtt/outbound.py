"""What a session still owes its client: messages of QoS 1 and 2, in order.

Bounds of a session: `MAX_QUEUED` messages and `MAX_BYTES` of payload. What comes beyond them is
refused, the oldest is kept, and it is counted in `iotlinker_messages_dropped`. At most `WINDOW`
messages are under way, so that a client is not sent more than it answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final

from broker.mqtt import packets

MAX_QUEUED: Final = 1000
MAX_BYTES: Final = 8 * 1024 * 1024
WINDOW: Final = 100
_MAX_ID: Final = 65_535


class Stage(IntEnum):
    """How far the delivery of a message has come."""

    RESERVED = 0  # not committed yet
    QUEUED = 1
    RELEASE_DUE = 2  # QoS 2: PUBREC came on an earlier connection
    SENT = 3
    RELEASED = 4  # QoS 2: PUBREC came


class Outgoing:
    """One message under its packet id, which it has from the moment it is queued.

    Attributes:
        position: Its place in the database; increases over restarts.
        dup: It may have been sent before.
    """

    __slots__ = ("dup", "packet_id", "payload", "position", "qos", "retain", "stage", "topic")

    def __init__(
        self, position: int, packet_id: int, topic: bytes, payload: bytes, qos: int, retain: bool
    ) -> None:
        self.position = position
        self.packet_id = packet_id
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.stage = Stage.RESERVED
        self.dup = False

    def packet(self) -> bytes:
        """Return what is to be sent now: PUBLISH, or the PUBREL of one that was received."""
        if self.stage is Stage.RELEASE_DUE:
            return packets.answer(packets.PUBREL, self.packet_id)
        return packets.publish(
            self.topic, self.payload, self.qos, self.packet_id, retain=self.retain, dup=self.dup
        )


class Outbox:
    """The messages of one session; made when the first one comes."""

    __slots__ = ("_bytes", "_last_id", "_messages", "_under_way", "_waiting", "passing")

    def __init__(self) -> None:
        self._messages: dict[int, Outgoing] = {}
        self._waiting: deque[Outgoing] = deque()
        self._under_way = 0
        self._bytes = 0
        self._last_id = 0
        self.passing: set[int] = set()
        """Ids of messages that are not kept for a next connection, and not acknowledged."""

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self._messages.values())

    def reserve(
        self, position: int, topic: bytes, payload: bytes, qos: int, retain: bool
    ) -> Outgoing | None:
        """Take a message that is to be committed first; None when there is no room."""
        if len(self._messages) >= MAX_QUEUED or self._bytes + len(payload) > MAX_BYTES:
            return None
        message = Outgoing(position, self.next_id(), topic, payload, qos, retain)
        self._messages[message.packet_id] = message
        self._bytes += len(payload)
        return message

    def restore(self, message: Outgoing, *, released: bool) -> None:
        """Take a message from the database; it may have been sent before the restart."""
        message.dup = True
        message.stage = Stage.RELEASE_DUE if released else Stage.QUEUED
        self._waiting.append(message)
        self._messages[message.packet_id] = message
        self._bytes += len(message.payload)
        self._last_id = message.packet_id

    def ready(self, message: Outgoing) -> None:
        """The message is committed."""
        message.stage = Stage.QUEUED
        self._waiting.append(message)

    def next_id(self) -> int:
        """Return a packet id that is not in use."""
        number = self._last_id
        while True:
            number = number % _MAX_ID + 1
            if number not in self._messages and number not in self.passing:
                self._last_id = number
                return number

    def rewind(self) -> None:
        """The connection has ended: what it did not acknowledge comes again, first and in order."""
        for message in self:
            if message.stage is Stage.SENT:
                message.stage, message.dup = Stage.QUEUED, True
            elif message.stage is Stage.RELEASED:
                message.stage = Stage.RELEASE_DUE
        self._waiting = deque(m for m in self if m.stage is not Stage.RESERVED)
        self._under_way = 0
        self.passing.clear()

    def pump(self, write: Callable[[bytes], None]) -> None:
        """Send what the window has room for."""
        waiting = self._waiting
        out: list[bytes] = []
        while waiting and self._under_way < WINDOW:
            message = waiting.popleft()
            self._under_way += 1
            out.append(message.packet())
            message.stage = Stage.SENT if message.stage is Stage.QUEUED else Stage.RELEASED
        if out:
            write(b"".join(out))

    def acknowledged(self, packet_id: int, qos: int) -> Outgoing | None:
        """Drop a message by its PUBACK (QoS 1) or PUBCOMP (QoS 2); None when there is none."""
        message = self._messages.get(packet_id)
        due = Stage.SENT if qos == 1 else Stage.RELEASED
        if message is None or message.qos != qos or message.stage is not due:
            return None
        del self._messages[packet_id]
        self._under_way -= 1
        self._bytes -= len(message.payload)
        return message

    def received(self, packet_id: int) -> Outgoing | None:
        """Note a PUBREC; None when no QoS 2 message of this id was sent."""
        message = self._messages.get(packet_id)
        if message is None or message.qos != 2 or message.stage < Stage.SENT:
            return None
        message.stage = Stage.RELEASED
        return message
