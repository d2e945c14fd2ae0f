"""From a message's arrival to the WebSocket, at 2,000 and 10,000 messages a second; p50, p95, p99.

The value is the p95 at 10,000.

50 devices publish at QoS 1 to the broker; one client of the real API is subscribed to all of them.
Each message carries the instant it was sent at; the clock is one machine's. The baseline is the
least that any such path needs, measured in the same run while nothing else goes on: the commit of
one row and a message through Valkey, p95.
"""

import argparse
import asyncio
import time
from contextlib import AsyncExitStack
from uuid import UUID

import asyncpg
import msgspec
import uvloop
from websockets.asyncio.client import ClientConnection

from benchmarks.support.fleet import Fleet, make_fleet
from benchmarks.support.live import access_token, make_account, subscribed
from benchmarks.support.load import publish, sign_in
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, percentile, process
from broker.database import IngestDatabase
from core import bus
from core.db.repositories.ingest import copy_telemetry, ensure_partition, instant, metric_list
from core.db.repositories.ingest_rows import RowEncoder, device_prefix
from core.settings import Settings

DEVICES = 50
RATES = (2_000, 10_000)  # messages a second
TICK = 0.005  # seconds between bursts of rate * TICK messages
WARM_UP = 3.0  # seconds whose messages do not count


class _Metrics(msgspec.Struct):
    temperature: float


class _Point(msgspec.Struct):
    device_id: UUID
    metrics: _Metrics


class _Frame(msgspec.Struct):
    type: str
    payload: _Point | None = None


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="at each rate")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    with data_servers() as settings:
        tenant_id = asyncio.run(make_account(settings))
        fleet = asyncio.run(make_fleet(settings, DEVICES, tenant_id))
        least = percentile(uvloop.run(_least(settings, fleet, tenant_id)), 0.95) * 1e3
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with (
            process(settings, "broker.main", health),
            process(settings, "workers.cli", f"{settings.api_url}/healthz", "api"),
        ):
            for rate in RATES:
                seen, sent = uvloop.run(_measure(settings, fleet, rate, options.seconds))
                p50, p95, p99 = (percentile(seen, q) * 1e3 for q in (0.5, 0.95, 0.99))
                print(
                    f"{sent:,} messages at {rate:,}/s, {len(seen):,} of them measured: "
                    f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms; "
                    f"commit and Valkey alone: p95 {least:.1f} ms",
                    flush=True,
                )
                for name, figure in (("p50", p50), ("p95", p95), ("p99", p99)):
                    figures[f"{name}_ms_at_{rate}"] = figure
    value = figures[f"p95_ms_at_{RATES[-1]}"]
    report("latency", value, "ms (p95)", least, value / least, **figures)


async def _measure(
    settings: Settings, fleet: Fleet, rate: int, seconds: float
) -> tuple[list[float], int]:
    token = await access_token(settings)
    seen: list[float] = []
    devices = [device_id for device_id, _ in fleet.devices]
    async with subscribed(settings, token, devices) as live:
        reading = asyncio.create_task(_read(live, seen))
        async with AsyncExitStack() as devices_online:
            sent, counted = await _send(settings, fleet, rate, seconds, devices_online)
            await _all_seen(seen, counted, reading)
        reading.cancel()
    return seen, sent


async def _read(live: ClientConnection, seen: list[float]) -> None:
    """Collect the latencies of the messages that count, until cancelled."""
    decode = msgspec.json.Decoder(_Frame).decode
    while True:
        frame = decode(await live.recv())
        if frame.payload is None:
            raise RuntimeError(f"the API sent a message of type {frame.type}")
        sent = frame.payload.metrics.temperature
        if sent > 0:
            seen.append(time.time() - sent)


async def _all_seen(seen: list[float], counted: int, reading: "asyncio.Task[None]") -> None:
    deadline = time.monotonic() + 30
    while len(seen) < counted:
        if reading.done():
            reading.result()
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {len(seen)} of {counted} messages reached the WebSocket")
        await asyncio.sleep(0.05)


async def _send(
    settings: Settings, fleet: Fleet, rate: int, seconds: float, online: AsyncExitStack
) -> tuple[int, int]:
    """Send at the rate; returns how many, and how many of these count.

    The connections stay open until `online` is closed: closing one whose acknowledgements have
    not been read would reset it and lose what the broker has not read.
    """
    writers: list[asyncio.StreamWriter] = []
    for device_id, key in fleet.devices:
        connection = sign_in(settings.broker.host, settings.broker.port, device_id, key)
        connection.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=connection)
        online.callback(writer.close)
        online.callback(asyncio.create_task(_drain(reader)).cancel)
        writers.append(writer)
    burst, sent, counted = int(rate * TICK), 0, 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < WARM_UP + seconds:
        due = int(elapsed / TICK) * burst
        while sent < due:
            counts = elapsed > WARM_UP
            number = sent % DEVICES
            # The sign tells the messages of the warm-up apart.
            stamp = time.time() if counts else -time.time()
            payload = msgspec.json.encode({"values": {"temperature": stamp}})
            packet_id = sent // DEVICES % 65535 + 1
            writers[number].write(publish(fleet.devices[number][0], packet_id, payload))
            sent, counted = sent + 1, counted + counts
        await asyncio.sleep(TICK / 5)
    return sent, counted


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def _least(settings: Settings, fleet: Fleet, tenant_id: UUID) -> list[float]:
    """Return the times of committing one row and passing one message through Valkey."""
    database, valkey = IngestDatabase(settings), bus.connect(settings)
    device_id = fleet.devices[0][0]
    times: list[float] = []
    async with database.connection() as connection, valkey.pubsub() as pubsub:
        names = ("temperature",)
        encoder = RowEncoder(await metric_list(connection, tenant_id, names), names)
        now = time.time_ns() // 1000
        await ensure_partition(connection, instant(now).date())
        await pubsub.subscribe(bus.telemetry(device_id))
        await pubsub.get_message(timeout=5)
        for number in range(1000):
            began = time.perf_counter()
            row = encoder.one(device_prefix(device_id), now + number, 1.0)
            await copy_telemetry(connection, [row])
            await valkey.publish(bus.telemetry(device_id), b"[]")
            if await pubsub.get_message(timeout=5) is None:
                raise RuntimeError("Valkey lost a message")
            times.append(time.perf_counter() - began)
    await valkey.aclose()
    await database.close()
    await _empty(settings)
    return times


async def _empty(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.admin_database_url, timeout=10)
    await connection.execute("TRUNCATE telemetry")
    await connection.close(timeout=10)


if __name__ == "__main__":
    main()
