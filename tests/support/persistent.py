"""Devices that lose nothing: they number their messages and repeat what was not acknowledged.

One thread with raw sockets serves them all, cheap enough to share two cores with what is proved.
The MQTT client is this file alone, so that the proof does not lean on code that it is about.
"""

import random
import selectors
import socket
import struct
import threading
import time
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tests.broker.raw import connect_packet, telemetry_topic, text

_IDS: Final = 65_535
_ID: Final = [struct.pack(">H", number + 1) for number in range(_IDS)]
_PUBACKS: Final = b"".join(b"\x40\x02" + number for number in _ID) * 2
_TICK: Final = 0.02  # seconds between two portions of a paced device
_CATCH_UP: Final = 1.0
"""Seconds of messages that may follow at once after a pause; what was due before is not made up."""
_PATIENCE: Final = 15.0  # seconds for a CONNACK
_PAUSE: Final = (0.05, 0.3)  # seconds before a connection is tried again, at random between
_SEND_BUFFER: Final = 64 * 1024
"""Bytes that the system may take from a device before the broker does: little, so that a broker
that stops reading is felt here."""


@dataclass(slots=True)
class Sender:
    """One device. Message `n` has the time `first_ms + n` and the value `value(n)`.

    Attributes:
        sent: Messages given to a socket so far, the unacknowledged included.
        acknowledged: How many were acknowledged: always the first ones, since PUBACKs keep the
            order of the messages [MQTT-4.6.0-2].
        repeated: Messages sent again with DUP.
        connections: How often it signed in.
        fault: What the broker did that no broker may do.
    """

    device_id: UUID
    key: str
    first_ms: int
    sent: int = 0
    acknowledged: int = 0
    repeated: int = 0
    connections: int = 0
    fault: str | None = None
    _socket: socket.socket | None = None
    _signed_in: bool = False
    _retry_at: float = 0.0
    _deadline: float = 0.0
    _out: bytearray = field(default_factory=bytearray)
    _in: bytes = b""
    _stamps: deque[tuple[int, float]] = field(default_factory=deque)


def value(number: int) -> int:
    """Return the value of a message: between 100 and 999."""
    return 100 + number % 900


class PersistentLoad:
    """Sends from all devices until stopped; run it in a thread, read it from any.

    Attributes:
        senders: The devices with their counts.
        rate: Messages a second of all devices together; None for as many as are acknowledged. May
            be changed at any time.
        written: Bytes that the sockets took.
        longest_pause: The longest time in which no device had an acknowledgement, in seconds.
        waits: Seconds from sending a portion of messages to its last acknowledgement.
        error: What ended the thread before its time.
    """

    def __init__(
        self,
        host: str,
        port: int,
        devices: Sequence[tuple[UUID, str]],
        *,
        window: int,
        rate: float | None = None,
        first_ms: int | None = None,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            host: Where the broker listens.
            port: And at which port.
            devices: Ids and keys.
            window: Unacknowledged messages of a device, at most.
            rate: See the attribute.
            first_ms: Time of the first message; an hour ago unless given.
        """
        start = int(time.time() * 1000) - 3_600_000 if first_ms is None else first_ms
        self.senders = [Sender(device_id, key, start) for device_id, key in devices]
        self.written = 0
        self.longest_pause = 0.0
        self.waits = array("d")
        self.error: BaseException | None = None
        self._address = (host, port)
        self._window = min(window, _IDS)
        self.rate = rate
        self._selector = selectors.DefaultSelector()
        self._ending = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="devices", daemon=True)
        self._random = random.Random(7)
        self._heard = 0.0
        self._credit = 0.0
        self._ticked = 0.0

    @property
    def sent(self) -> int:
        """Messages sent, each counted once."""
        return sum(sender.sent for sender in self.senders)

    @property
    def acknowledged(self) -> int:
        """Messages acknowledged."""
        return sum(sender.acknowledged for sender in self.senders)

    @property
    def repeated(self) -> int:
        """Messages sent again."""
        return sum(sender.repeated for sender in self.senders)

    @property
    def connections(self) -> int:
        """How often a device signed in."""
        return sum(sender.connections for sender in self.senders)

    @property
    def held_up(self) -> int:
        """Bytes of messages for which the sockets have no room."""
        return sum(len(sender._out) for sender in self.senders)

    @property
    def faults(self) -> list[str]:
        """What the broker did that no broker may do."""
        return [sender.fault for sender in self.senders if sender.fault is not None]

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, patience: float = 60.0) -> None:
        """Send nothing new, wait until all that was sent is acknowledged, and end.

        Raises:
            TimeoutError: It was not acknowledged in `patience` seconds.
            RuntimeError: The thread had failed.
        """
        self._ending.set()
        self._thread.join(patience)
        if self.error is not None:
            raise RuntimeError("the devices failed") from self.error
        if self._thread.is_alive():
            raise TimeoutError(f"{self.sent - self.acknowledged} messages without acknowledgement")

    def abandon(self) -> None:
        """End at once, whatever is acknowledged; no error when it has ended already."""
        self._abandoned = True
        self._ending.set()
        self._thread.join(10)

    # --- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._heard = self._ticked = time.monotonic()
            while not (self._ending.is_set() and self._done):
                self._step()
        except BaseException as error:  # whoever stops the load raises it again
            self.error = error
        finally:
            for sender in self.senders:
                self._drop(sender, 0.0, goodbye=True)
            self._selector.close()

    @property
    def _done(self) -> bool:
        return self._abandoned or self.acknowledged == self.sent

    def _step(self) -> None:
        now = time.monotonic()
        portion = self._portion(now)
        for sender in self.senders:
            if sender._socket is None:
                if now >= sender._retry_at:
                    self._connect(sender, now)
            elif not sender._signed_in:
                if now >= sender._deadline:
                    self._drop(sender, now)
            elif not sender._out:
                self._fill(sender, now, portion)
        for key, events in self._selector.select(_TICK if self.rate else 0.1):
            sender: Sender = key.data
            try:
                if events & selectors.EVENT_READ:
                    self._read(sender)
                if events & selectors.EVENT_WRITE and sender._socket is not None:
                    self._write(sender)
            except OSError:
                self._drop(sender, time.monotonic())

    def _portion(self, now: float) -> int | None:
        """Return how many messages a device may send now; None for any number."""
        if self.rate is None:
            return None
        passed = min(now - self._ticked, _CATCH_UP)
        if passed < _TICK:
            return 0
        self._ticked = now
        self._credit += passed * self.rate / len(self.senders)
        portion = int(self._credit)
        self._credit -= portion
        return portion

    def _connect(self, sender: Sender, now: float) -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        connection.connect_ex(self._address)
        sender._socket = connection
        sender._signed_in, sender._deadline, sender._in = False, now + _PATIENCE, b""
        sender._out = bytearray(
            connect_packet(str(sender.device_id), sender.key, client="persistent", keep_alive=0)
        )
        self._selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, sender)

    def _drop(self, sender: Sender, now: float, *, goodbye: bool = False) -> None:
        connection, sender._socket = sender._socket, None
        if connection is None:
            return
        self._selector.unregister(connection)
        if goodbye and sender._signed_in and not sender._out:
            connection.setblocking(True)
            connection.sendall(b"\xe0\x00")
        connection.close()
        sender._out = bytearray()
        sender._stamps.clear()
        sender._retry_at = now + self._random.uniform(*_PAUSE)

    def _fill(self, sender: Sender, now: float, portion: int | None) -> None:
        room = self._window - (sender.sent - sender.acknowledged)
        if self._ending.is_set() or portion == 0:
            return
        # Without a rate, half a window at a time: each portion costs the broker a chunk.
        if portion is None and room < self._window // 2:
            return
        count = room if portion is None else min(room, portion)
        if count <= 0:
            return
        first, sender.sent = sender.sent, sender.sent + count
        sender._stamps.append((sender.sent, now))
        sender._out += _messages(sender, first, sender.sent, dup=False)
        self._write(sender)

    def _write(self, sender: Sender) -> None:
        connection = sender._socket
        assert connection is not None
        if sender._out:
            try:
                count = connection.send(sender._out)
                self.written += count
                del sender._out[:count]
            except BlockingIOError:
                pass
            except OSError:
                self._drop(sender, time.monotonic())
                return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if sender._out else 0)
        if self._selector.get_key(connection).events != wanted:
            self._selector.modify(connection, wanted, sender)

    def _read(self, sender: Sender) -> None:
        connection = sender._socket
        assert connection is not None
        try:
            data = connection.recv(262_144)
        except BlockingIOError:
            return
        if not data:
            self._drop(sender, time.monotonic())
            return
        data = sender._in + data
        if not sender._signed_in:
            if len(data) < 4:
                sender._in = data
                return
            if data[:4] != b"\x20\x02\x00\x00":  # the broker waits for the database, say
                self._drop(sender, time.monotonic())
                return
            self._welcome(sender)
            data = data[4:]
        count = len(data) // 4
        sender._in = data[4 * count :]
        if count:
            self._acknowledge(sender, data[: 4 * count], count)

    def _welcome(self, sender: Sender) -> None:
        sender._signed_in = True
        sender.connections += 1
        if sender.sent > sender.acknowledged:
            sender.repeated += sender.sent - sender.acknowledged
            sender._out += _messages(sender, sender.acknowledged, sender.sent, dup=True)
            sender._stamps.append((sender.sent, time.monotonic()))
            self._write(sender)

    def _acknowledge(self, sender: Sender, packets: bytes, count: int) -> None:
        start = 4 * (sender.acknowledged % _IDS)
        unacknowledged = sender.sent - sender.acknowledged
        if count > unacknowledged or _PUBACKS[start : start + len(packets)] != packets:
            sender.fault = f"after PUBACK {sender.acknowledged}: {packets[:16].hex()}"
            self._ending.set()
            raise RuntimeError(sender.fault)
        sender.acknowledged += count
        now = time.monotonic()
        self.longest_pause = max(self.longest_pause, now - self._heard)
        self._heard = now
        while sender._stamps and sender._stamps[0][0] <= sender.acknowledged:
            self.waits.append(now - sender._stamps.popleft()[1])


def _messages(sender: Sender, first: int, end: int, *, dup: bool) -> bytes:
    topic = text(telemetry_topic(sender.device_id))
    payload = b'{"ts":%d,"values":{"temperature":%d}}'
    length = len(topic) + 2 + len(payload % (sender.first_ms + first, value(first)))
    assert length < 128
    head = bytes([0x3A if dup else 0x32, length]) + topic
    start = sender.first_ms
    return b"".join(
        head + _ID[n % _IDS] + payload % (start + n, 100 + n % 900) for n in range(first, end)
    )
