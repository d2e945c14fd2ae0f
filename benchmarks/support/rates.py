"""How fast telemetry is taken through the broker, and how fast PostgreSQL takes the same rows."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import asyncpg

from benchmarks.support.fleet import METRICS, Fleet
from benchmarks.support.load import Plan, run_apart
from broker.database import IngestDatabase
from broker.ingest.batching import MAX_BATCH
from core.db.repositories.ingest import copy_telemetry, ensure_partition, instant, metric_list
from core.db.repositories.ingest_rows import RowEncoder, device_prefix
from core.settings import Settings
from tests.support.servers import free_port

CONNECTIONS = 50
WINDOW = 200


def ingest_rate(
    settings: Settings, fleet: Fleet, messages: int, metrics: int, window: int = WINDOW
) -> float:
    """Return messages a second from sending to the last PUBACK, from an empty table."""
    asyncio.run(_empty(settings))
    plan = Plan(
        host=settings.broker.host,
        port=settings.broker.port,
        devices=fleet.devices,
        messages=messages,
        window=window,
        metrics=metrics,
    )
    outcome = run_apart(plan)
    stored = asyncio.run(_empty(settings))
    if stored != outcome.acknowledged:
        raise RuntimeError(f"{outcome.acknowledged} acknowledged but {stored} stored")
    rate = outcome.acknowledged / outcome.seconds
    print(
        f"ingest: {rate:,.0f} messages/s of {metrics} values; a window of {window} is acknowledged"
        f" after p50 {outcome.window_p50 * 1e3:.0f} ms, p99 {outcome.window_p99 * 1e3:.0f} ms",
        flush=True,
    )
    return rate


def copy_rate(settings: Settings, fleet: Fleet, messages: int, metrics: int) -> float:
    """Return rows a second of the raw COPY, by as many connections as the broker has flushers."""
    return asyncio.run(_copy(settings, fleet, messages, metrics))


async def _copy(settings: Settings, fleet: Fleet, messages: int, metrics: int) -> float:
    database = IngestDatabase(settings)
    names = METRICS[:metrics]
    async with database.connection() as connection:
        encoder = RowEncoder(await metric_list(connection, fleet.tenant_id, names), names)
        now = time.time_ns() // 1000
        await ensure_partition(connection, instant(now).date())
    prefixes = [device_prefix(device_id) for device_id, _ in fleet.devices]
    rows = [
        encoder.many(
            prefixes[number % len(prefixes)], now + number, [20.5 + number % 100] * metrics
        )
        for number in range(messages)
    ]
    batches = [rows[start : start + MAX_BATCH] for start in range(0, messages, MAX_BATCH)]

    async def flush() -> None:
        async with database.connection() as connection:
            while batches:
                await copy_telemetry(connection, batches.pop())

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(settings.broker.flushers):
            group.create_task(flush())
    rate = messages / (time.perf_counter() - began)
    await database.close()
    await _empty(settings)
    print(f"raw COPY: {rate:,.0f} rows/s of {metrics} values", flush=True)
    return rate


async def _empty(settings: Settings) -> int:
    """Empty the table; return how many rows it had."""
    connection = await asyncpg.connect(settings.admin_database_url, timeout=10)
    try:
        count = int(await connection.fetchval("SELECT count(*) FROM telemetry"))
        await connection.execute("TRUNCATE telemetry")
        return count
    finally:
        await connection.close(timeout=10)


def mosquitto_rate(fleet: Fleet, messages: int, window: int = WINDOW) -> float | None:
    """Return the messages a second that Mosquitto acknowledges, which stores nothing.

    None where it is not installed.
    """
    command = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if command is None:
        return None
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n")
        file.write("max_queued_messages 0\n")
        file.flush()
        Path(file.name).chmod(0o644)  # it gives up the rights of root before it reads
        with subprocess.Popen([command, "-c", file.name], stderr=subprocess.DEVNULL) as process:
            try:
                _listening(port)
                plan = Plan("127.0.0.1", port, fleet.devices, messages, window)
                outcome = run_apart(plan)
            finally:
                process.terminate()
    rate = outcome.acknowledged / outcome.seconds
    print(f"Mosquitto: {rate:,.0f} messages/s, stored nowhere", flush=True)
    return rate


def _listening(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("Mosquitto does not listen")
