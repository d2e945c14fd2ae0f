"""Clients that send hostile packets, dribble, never read, vanish, or only sign in, many at once."""

import itertools
import random
import selectors
import socket
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Final
from uuid import UUID

from tests.broker.raw import connect_packet, packet, publish_packet, telemetry_topic
from tests.support.hostile_packets import HostilePackets, imagined

_AT_ONCE: Final = 100  # connections that send hostile packets
_HARMLESS: Final = 12  # packets of a connection before the one that may end it, at most
_LINGER: Final = 0.5
"""Seconds for the broker to close a connection, or to answer the PINGREQ that comes last: whoever
leaves sooner takes with him what it has not read."""
_PINGRESP: Final = b"\xd0\x00"
_PATIENCE: Final = 30.0  # seconds in which no packet goes out
_DRIBBLE: Final = 0.2  # seconds between two bytes of one that is slow
_FLOOD: Final = 200  # connections that sign in at the same moment
_FLOOD_EVERY: Final = 20_000  # packets
_UNREAD: Final = 8 * 1024 * 1024
"""Bytes that a client which never reads sends before it gives up; the broker cuts it off sooner."""


@dataclass(frozen=True, slots=True)
class Attack:
    """What to do; the same seed makes the same packets.

    Attributes:
        devices: Ids and keys that may be abused.
        packets: How many to send.
        slow: Connections of each kind that stay: dribbling, never reading, saying nothing.
    """

    host: str
    port: int
    devices: Sequence[tuple[UUID, str]]
    packets: int
    seed: int
    slow: int = 15


@dataclass(slots=True)
class Damage:
    """What was done.

    Attributes:
        packets: Packets that were given to a socket and that the broker had to read; those of slow
            connections, and those after one that may have ended the connection, are left out.
        kinds: Packets by kind.
        connections: Connections made, floods included.
        closed: Those that the broker ended.
        cut_off: Connections that never read and were ended for it.
    """

    packets: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    closed: int = 0
    cut_off: int = 0
    seconds: float = 0.0


def attack_apart(plan: Attack) -> Damage:
    """Attack from a process of its own, so that nothing here is slowed by it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(attack, plan).result()


def attack(plan: Attack) -> Damage:
    """Attack until all packets are sent."""
    return _Attackers(plan).run()


@dataclass(slots=True, eq=False)
class _Connection:
    """One connection.

    Attributes:
        kind: `burst`, `dribble`, `deaf` or `silent`.
        ends: Where its packets end in `out`, for counting those that went out.
        due: When it is served again, or ended.
    """

    socket: socket.socket
    kind: str
    out: bytes = b""
    ends: list[int] = field(default_factory=list)
    written: int = 0
    counted: int = 0
    due: float = 0.0


class _Attackers:
    def __init__(self, plan: Attack) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        others = itertools.cycle(device_id for device_id, _ in reversed(plan.devices))
        made_up = imagined(min(1_000, plan.packets // 20), plan.seed)
        self._makers = [
            HostilePackets(plan.seed + number, device_id, key, next(others), made_up)
            for number, (device_id, key) in enumerate(plan.devices)
        ]
        self._selector = selectors.DefaultSelector()
        self._open: Counter[str] = Counter()
        self._damage = Damage()
        self._flooded = 0

    def run(self) -> Damage:
        began = advanced = time.monotonic()
        before = 0
        while self._damage.packets < self._plan.packets:
            if self._damage.packets > before:
                before, advanced = self._damage.packets, time.monotonic()
            elif time.monotonic() - advanced > _PATIENCE:
                raise TimeoutError(f"the broker took nothing for {_PATIENCE} s")
            self._refill()
            for key, events in self._selector.select(0.02):
                self._serve(key.data, events)
            self._expire()
        for key in list(self._selector.get_map().values()):
            self._end(key.data)
        self._selector.close()
        for maker in self._makers:
            self._damage.kinds.update(maker.made)
        self._damage.seconds = time.monotonic() - began
        return self._damage

    # --- making connections --------------------------------------------------------------------

    def _refill(self) -> None:
        while self._open["burst"] < _AT_ONCE:
            maker = self._random.choice(self._makers)
            packets, rest = maker.burst(_HARMLESS)
            self._connect("burst", packets, rest + b"\xc0\x00")
        for kind in ("dribble", "deaf", "silent"):
            while self._open[kind] < self._plan.slow:
                self._connect(kind, self._slow(kind))
        if self._damage.packets - self._flooded >= _FLOOD_EVERY:
            self._flooded = self._damage.packets
            self._flood()

    def _slow(self, kind: str) -> list[bytes]:
        device_id, key = self._random.choice(self._plan.devices)
        sign_in = connect_packet(str(device_id), key, client=f"slow{self._random.random()}")
        match kind:
            case "dribble":
                long = publish_packet(telemetry_topic(device_id), b"[" * 100_000)
                return [sign_in + long] if self._random.random() < 0.5 else [sign_in]
            case "deaf":
                hears = packet(0x82, b"\0\1" + b"\0\x15v1/devices/me/errors!"[:-1] + b"\0")
                asks = publish_packet(telemetry_topic(device_id), b"not json") + b"\xc0\x00" * 50
                return [sign_in, hears, asks * (_UNREAD // len(asks))]
            case _:
                return []

    def _connect(self, kind: str, packets: list[bytes], rest: bytes = b"") -> None:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        if kind == "deaf":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect_ex((self._plan.host, self._plan.port))
        self._damage.connections += 1
        self._open[kind] += 1
        # What the slow ones send is not counted: it would be most of the packets.
        ends = (
            list(itertools.accumulate(len(packet) for packet in packets)) if kind == "burst" else []
        )
        client = _Connection(
            connection, kind, b"".join(packets) + rest, ends, due=time.monotonic() + 5
        )
        events = selectors.EVENT_WRITE if kind == "deaf" else selectors.EVENT_READ
        if kind == "burst":
            events |= selectors.EVENT_WRITE
        self._selector.register(connection, events, client)

    def _flood(self) -> None:
        """Sign in with keys that do not exist, all at once, and be gone."""
        flood: list[socket.socket] = []
        for _ in range(_FLOOD):
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            connection.setblocking(False)
            connection.connect_ex((self._plan.host, self._plan.port))
            flood.append(connection)
        for number, connection in enumerate(flood):
            try:
                connection.send(connect_packet(f"nobody{number}", "wrong", client=f"f{number}"))
                self._damage.packets += 1
            except OSError:
                pass  # refused, or not connected yet: then it is only a connection
            connection.close()
        self._damage.connections += _FLOOD

    # --- serving them --------------------------------------------------------------------------

    def _serve(self, client: _Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                data = client.socket.recv(65_536)
                if not data:
                    self._closed(client)
                    return
                if client.kind == "burst" and data.endswith(_PINGRESP):
                    client.due = min(client.due, time.monotonic() + _LINGER / 5)
            if events & selectors.EVENT_WRITE:
                self._write(client, 262_144)
        except BlockingIOError:
            return
        except OSError:
            self._closed(client)

    def _write(self, client: _Connection, most: int) -> None:
        now = time.monotonic()
        sent = client.socket.send(client.out[client.written : client.written + most])
        client.written += sent
        while client.counted < len(client.ends) and client.ends[client.counted] <= client.written:
            client.counted += 1
            self._damage.packets += 1
        client.due = now + (_DRIBBLE if client.kind == "dribble" else 5)
        if client.written == len(client.out) and client.kind == "burst":
            client.due = now + _LINGER
            self._selector.modify(client.socket, selectors.EVENT_READ, client)

    def _expire(self) -> None:
        now = time.monotonic()
        for key in list(self._selector.get_map().values()):
            client: _Connection = key.data
            if now < client.due:
                continue
            if client.kind == "dribble" and client.written < len(client.out):
                try:
                    self._write(client, 1)
                except BlockingIOError:
                    client.due = now + _DRIBBLE
                except OSError:
                    self._closed(client)
            elif client.kind == "silent":
                client.due = now + 5
            else:
                self._end(client)

    def _closed(self, client: _Connection) -> None:
        self._damage.closed += 1
        self._damage.cut_off += client.kind == "deaf"
        self._end(client)

    def _end(self, client: _Connection) -> None:
        """Vanish; half of the time without the FIN that would tell the broker in order."""
        self._open[client.kind] -= 1
        self._selector.unregister(client.socket)
        if self._random.random() < 0.5:
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.socket.close()
