"""QoS 1 messages a second, acknowledged after the commit, against the raw COPY of the same rows.

50 connections, one metric a message, validation and a trigger on. The raw COPY has the rows ready
in PostgreSQL's binary form and as many connections as the broker has flushers, so it is what the
database can do at all. Both are run in turn, each from an empty table; medians are reported, and
the ratio is the median of the pairs' ratios.
"""

import argparse
import asyncio
import time

import asyncpg

from benchmarks.support.fleet import Fleet, make_fleet
from benchmarks.support.load import Plan, run_apart
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, median, process
from broker.database import IngestDatabase
from broker.ingest.batching import MAX_BATCH
from core.db.repositories.ingest import copy_telemetry, ensure_partition, instant, metric_list
from core.db.repositories.ingest_rows import RowEncoder, device_prefix
from core.settings import Settings

CONNECTIONS = 50
WINDOW = 200


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=400_000, help="in each run")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs")
    parser.add_argument("--metrics", type=int, default=1, help="in each message")
    parser.add_argument("--window", type=int, default=WINDOW, help="unacknowledged, a connection")
    options = parser.parse_args()
    with data_servers() as settings:
        fleet = asyncio.run(make_fleet(settings, CONNECTIONS))
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with process(settings, "broker.main", health):
            pairs = []
            for number in range(options.rounds + 1):
                through = _ingest(settings, fleet, options)
                raw = asyncio.run(_copy(settings, fleet, options.messages, options.metrics))
                if number:  # the first pair warms everything up
                    pairs.append((through, raw))
    report(
        "ingest",
        median([through for through, _ in pairs]),
        "messages/s",
        median([raw for _, raw in pairs]),
        median([through / raw for through, raw in pairs]),
    )


def _ingest(settings: Settings, fleet: Fleet, options: argparse.Namespace) -> float:
    asyncio.run(_empty(settings))
    plan = Plan(
        host=settings.broker.host,
        port=settings.broker.port,
        devices=fleet.devices,
        messages=options.messages,
        window=options.window,
        metrics=options.metrics,
    )
    outcome = run_apart(plan)
    stored = asyncio.run(_empty(settings))
    if stored != outcome.acknowledged:
        raise RuntimeError(f"{outcome.acknowledged} acknowledged but {stored} stored")
    rate = outcome.acknowledged / outcome.seconds
    print(
        f"ingest: {rate:,.0f} messages/s; a window of {options.window} is acknowledged after "
        f"p50 {outcome.window_p50 * 1e3:.0f} ms, p99 {outcome.window_p99 * 1e3:.0f} ms",
        flush=True,
    )
    return rate


async def _copy(settings: Settings, fleet: Fleet, messages: int, metrics: int) -> float:
    database = IngestDatabase(settings)
    names = ["temperature", *(f"metric{i}" for i in range(1, metrics))]
    async with database.connection() as connection:
        encoder = RowEncoder(await metric_list(connection, fleet.tenant_id, names), tuple(names))
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
    print(f"raw COPY: {rate:,.0f} rows/s", flush=True)
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


if __name__ == "__main__":
    main()
