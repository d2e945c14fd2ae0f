"""A crowd of MQTT clients on raw sockets, cheap enough to share two cores with what it measures.

Runs as a process of its own: it reads a `Crowd` in one line of JSON from standard input, connects
everybody, tells a `Came` in one line, and waits for a line before it goes on: everybody sends in
turn for a while, and at the end it tells a `Held`.
"""

import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

import msgspec

from benchmarks.support.load import packet, publish, text

_AT_ONCE = 256  # connections that are being made
_PER_ADDRESS = 2_000  # connections from one source address, so that free ports are found at once


class Crowd(msgspec.Struct):
    """Who connects, and what they do then.

    Attributes:
        devices: Ids and keys; a connection each.
        hold: Seconds.
        interval: Seconds between two messages of a client.
    """

    host: str
    port: int
    devices: list[tuple[UUID, str]]
    hold: float
    interval: float = 60.0


class Came(msgspec.Struct):
    """Everybody is connected.

    Attributes:
        seconds: From the first TCP connect to the last CONNACK.
    """

    seconds: float


class Held(msgspec.Struct):
    """What came of holding them."""

    seconds: float
    sent: int
    acknowledged: int
    dropped: int


def _connect(crowd: Crowd) -> tuple[list[socket.socket], float]:
    poll = select.epoll()
    waiting = list(enumerate(crowd.devices))[::-1]
    clients: dict[int, socket.socket] = {}
    hello: dict[int, bytes] = {}
    done: list[socket.socket] = []
    began = time.perf_counter()
    under_way = 0
    while len(done) < len(crowd.devices):
        while waiting and under_way < _AT_ONCE:
            number, (device_id, key) = waiting.pop()
            client = socket.socket()
            client.setblocking(False)
            client.bind((f"127.0.0.{2 + number // _PER_ADDRESS}", 0))
            client.connect_ex((crowd.host, crowd.port))
            connect = text("MQTT") + b"\x04\xc2\x00\xb4" + text(f"c{number}")
            hello[client.fileno()] = packet(0x10, connect + text(str(device_id)) + text(key))
            clients[client.fileno()] = client
            poll.register(client.fileno(), select.EPOLLOUT)
            under_way += 1
        for descriptor, event in poll.poll(30):
            client = clients[descriptor]
            if event & select.EPOLLOUT:
                client.send(hello.pop(descriptor))
                poll.modify(descriptor, select.EPOLLIN)
                continue
            answer = client.recv(16)
            if answer != b"\x20\x02\x00\x00":
                raise RuntimeError(f"not accepted: {answer.hex()}")
            poll.unregister(descriptor)
            done.append(client)
            under_way -= 1
    return list(clients.values()), time.perf_counter() - began


def _subscribe(clients: list[socket.socket]) -> None:
    filter_ = packet(0x82, b"\x00\x01" + text("v1/devices/me/commands/+") + b"\x01")
    for start in range(0, len(clients), _AT_ONCE):
        some = clients[start : start + _AT_ONCE]
        for client in some:
            client.send(filter_)
        for client in some:
            client.settimeout(30)
            if client.recv(5)[:1] != b"\x90":
                raise RuntimeError("no SUBACK")
            client.setblocking(False)


def _hold(crowd: Crowd, clients: list[socket.socket]) -> Held:
    poll = select.epoll()
    by_number = {client.fileno(): client for client in clients}
    for descriptor in by_number:
        poll.register(descriptor, select.EPOLLIN)
    sent = acknowledged = dropped = 0
    began = time.perf_counter()
    step = crowd.interval / len(clients)
    while True:
        passed = time.perf_counter() - began
        if passed > crowd.hold:
            break
        while sent * step < min(passed, crowd.hold - 5):
            number = sent % len(clients)
            client, (device_id, _) = clients[number], crowd.devices[number]
            sent += 1
            if client.fileno() >= 0:
                client.send(publish(device_id, 1, b'{"values": {"temperature": 20.5}}'))
        for descriptor, _ in poll.poll(0.02):
            client = by_number[descriptor]
            try:
                data = client.recv(4096)
            except ConnectionError:
                data = b""
            if data:
                acknowledged += data.count(b"\x40\x02\x00\x01")
            else:
                dropped += 1
                poll.unregister(descriptor)
                client.close()
    return Held(time.perf_counter() - began, sent, acknowledged, dropped)


def main() -> None:
    """Do what standard input says."""
    crowd = msgspec.json.decode(sys.stdin.buffer.readline(), type=Crowd)
    clients, seconds = _connect(crowd)
    _subscribe(clients)
    _tell(Came(seconds))
    sys.stdin.buffer.readline()
    _tell(_hold(crowd, clients))
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


def _tell(what: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


class Gathered:
    """A crowd that is connected, as its parent sees it."""

    def __init__(self, process: "subprocess.Popen[bytes]", came: Came) -> None:
        self._process = process
        self.came = came

    def hold(self) -> Held:
        """Let everybody send in turn for as long as was planned."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(_line(self._process), type=Held)


def _line(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the crowd ended early")
    return line


@contextmanager
def gathered(crowd: Crowd) -> Generator[Gathered]:
    """Connect a crowd from a process of its own; it is gone at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.support.crowd"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(crowd) + b"\n")
        process.stdin.flush()
        yield Gathered(process, msgspec.json.decode(_line(process), type=Came))
    finally:
        process.kill()
        process.wait(10)


if __name__ == "__main__":
    main()
