"""MQTT load from raw sockets: cheap enough to share two cores with what it measures.

Runs as a process of its own: `python -m benchmarks.support.load` reads a `Plan` in JSON from
standard input and answers with an `Outcome` in JSON.
"""

import selectors
import socket
import struct
import subprocess
import sys
import time
from uuid import UUID

import msgspec

from benchmarks.support.fleet import METRICS
from core import topics


class Plan(msgspec.Struct):
    """What to send.

    Attributes:
        devices: Ids and keys; a connection each.
        messages: In all; rounded down to whole windows.
        window: Messages of a connection that are not acknowledged yet.
    """

    host: str
    port: int
    devices: list[tuple[UUID, str]]
    messages: int
    window: int
    metrics: int = 1


class Outcome(msgspec.Struct):
    """What came of it; times in seconds, from sending a window to its last PUBACK."""

    acknowledged: int
    seconds: float
    window_p50: float
    window_p99: float


def packet(header: int, body: bytes) -> bytes:
    """Return an MQTT packet."""
    length, rest = b"", len(body)
    while True:
        byte, rest = rest & 0x7F, rest >> 7
        length += bytes([byte | 0x80 if rest else byte])
        if not rest:
            return bytes([header]) + length + body


def text(value: str) -> bytes:
    """Return a string with its length before it."""
    return struct.pack(">H", len(value)) + value.encode()


def sign_in(host: str, port: int, device_id: UUID, key: str) -> socket.socket:
    """Return a connection that the broker has accepted."""
    connection = socket.create_connection((host, port), timeout=30)
    connect = b"\x00\x04MQTT\x04\xc2\x00\x3c" + text(str(device_id)) * 2 + text(key)
    connection.sendall(packet(0x10, connect))
    answer = connection.recv(4)
    if answer[:2] != b"\x20\x02" or answer[3] != 0:
        raise RuntimeError(f"refused: {answer.hex()}")
    return connection


def publish(device_id: UUID, packet_id: int, payload: bytes) -> bytes:
    """Return a PUBLISH of telemetry at QoS 1."""
    topic = text(topics.telemetry(device_id))
    return packet(0x32, topic + struct.pack(">H", packet_id) + payload)


def _window(plan: Plan, device_id: UUID) -> bytes:
    names = METRICS[: plan.metrics]
    return b"".join(
        publish(
            device_id,
            number + 1,
            msgspec.json.encode({"values": dict.fromkeys(names, 20.5 + number % 100)}),
        )
        for number in range(plan.window)
    )


def run(plan: Plan) -> Outcome:
    """Send as fast as it is acknowledged."""
    windows = max(1, plan.messages // len(plan.devices) // plan.window)
    selector = selectors.DefaultSelector()
    blocks: dict[socket.socket, bytes] = {}
    for device_id, key in plan.devices:
        connection = sign_in(plan.host, plan.port, device_id, key)
        blocks[connection] = _window(plan, device_id)
        selector.register(connection, selectors.EVENT_READ)
    waits: list[float] = []
    left = dict.fromkeys(blocks, windows - 1)
    got = dict.fromkeys(blocks, 0)
    sent: dict[socket.socket, float] = {}
    began = time.perf_counter()
    for connection, block in blocks.items():
        sent[connection] = time.perf_counter()
        connection.sendall(block)
    running = len(blocks)
    while running:
        ready = selector.select(60)
        if not ready:
            raise RuntimeError("nothing was acknowledged for a minute")
        for key, _ in ready:
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            data = connection.recv(65536)
            if not data:
                raise RuntimeError("the broker closed a connection")
            got[connection] += len(data)
            if got[connection] < 4 * plan.window:
                continue
            got[connection] = 0
            now = time.perf_counter()
            waits.append(now - sent[connection])
            if left[connection]:
                left[connection] -= 1
                sent[connection] = now
                connection.sendall(blocks[connection])
            else:
                selector.unregister(connection)
                running -= 1
    seconds = time.perf_counter() - began
    for connection in blocks:
        connection.sendall(b"\xe0\x00")
        connection.close()
    waits.sort()
    return Outcome(
        acknowledged=windows * plan.window * len(blocks),
        seconds=seconds,
        window_p50=waits[len(waits) // 2],
        window_p99=waits[int(len(waits) * 0.99)],
    )


def run_apart(plan: Plan) -> Outcome:
    """Run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.support.load"],
        input=msgspec.json.encode(plan),
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return msgspec.json.decode(done.stdout, type=Outcome)


if __name__ == "__main__":
    outcome = run(msgspec.json.decode(sys.stdin.buffer.read(), type=Plan))
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
