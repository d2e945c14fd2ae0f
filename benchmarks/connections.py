"""What an idle MQTT connection costs: memory, and the time of a sign-in; against stock amqtt.

A process of ours takes thousands of devices, each with a key of its own that is looked up in
PostgreSQL, and a subscription; the value is the growth of its resident memory by one of them. Then
each sends a message a minute, which is stored and acknowledged, while all are held. The baseline is
amqtt as it is, with nobody to look up and nothing stored, measured beside it with fewer.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from uuid import UUID, uuid4

import asyncpg
import psutil

from benchmarks.support.crowd import Crowd, gathered
from benchmarks.support.fleet import make_fleet
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, process
from core.crypto import device_key_digest, new_device_key
from core.settings import Settings
from tests.support.servers import free_port

_STOCK = 2_000
_WARM = 300


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=15_000)
    parser.add_argument("--hold", type=float, default=300.0, help="seconds")
    parser.add_argument("--stock", type=int, default=_STOCK, help="connections of the baseline")
    options = parser.parse_args()
    stock_kb, stock_rate = _stock(options.stock)
    os.environ["IOTLINKER_BROKER_MAX_CONNECTIONS"] = str(options.connections + _WARM)
    with data_servers() as settings:
        devices = asyncio.run(_devices(settings, options.connections + _WARM))
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with process(settings, "broker.main", health) as pid:
            broker = psutil.Process(pid)
            where = settings.broker.host, settings.broker.port
            with gathered(Crowd(*where, devices[:_WARM], 0)):
                pass  # what is loaded and allocated once is no connection's
            before, spent = broker.memory_info().rss, _cpu(broker)
            with gathered(Crowd(*where, devices[_WARM:], options.hold)) as crowd:
                rate = options.connections / crowd.came.seconds
                kilobytes = (broker.memory_info().rss - before) / options.connections / 1024
                each = (_cpu(broker) - spent) / options.connections * 1e6
                print(
                    f"{kilobytes:.1f} KB a connection, {rate:,.0f} connections/s, "
                    f"{each:.0f} µs of the broker's process each",
                    flush=True,
                )
                spent, began = _cpu(broker), time.perf_counter()
                held = crowd.hold()
                share = (_cpu(broker) - spent) / (time.perf_counter() - began)
    if held.acknowledged != held.sent:
        raise RuntimeError(f"{held.sent} sent but {held.acknowledged} acknowledged")
    report(
        "connections",
        kilobytes,
        "KB a connection",
        stock_kb,
        kilobytes / stock_kb,
        connections_per_second=rate,
        broker_microseconds_each=each,
        connections=options.connections,
        seconds_held=held.seconds,
        messages=held.sent,
        dropped=held.dropped,
        cpu_share=share,
        stock_connections_per_second=stock_rate,
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _stock(count: int) -> tuple[float, float]:
    """Return amqtt's kilobytes a connection and connections a second."""
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.support.stock", str(port)], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        broker = psutil.Process(child.pid)
        nobody = [(uuid4(), "x") for _ in range(count + _WARM)]
        with gathered(Crowd("127.0.0.1", port, nobody[:_WARM], 0)):
            pass
        before = broker.memory_info().rss
        with gathered(Crowd("127.0.0.1", port, nobody[_WARM:], 0)) as crowd:
            kilobytes = (broker.memory_info().rss - before) / count / 1024
            rate = count / crowd.came.seconds
    finally:
        child.kill()
        child.wait(10)
    print(f"stock amqtt: {kilobytes:.1f} KB a connection, {rate:,.0f} connections/s", flush=True)
    return kilobytes, rate


async def _devices(settings: Settings, count: int) -> list[tuple[UUID, str]]:
    """Make devices of one tenant, all at once."""
    fleet = await make_fleet(settings, 1)
    devices = [(uuid4(), new_device_key()) for _ in range(count)]
    connection = await asyncpg.connect(settings.admin_database_url, timeout=10)
    try:
        await connection.execute(
            """
            INSERT INTO devices (id, tenant_id, profile_id, name, lifecycle)
            SELECT n.id, d.tenant_id, d.profile_id, n.id::text, 'active'
            FROM devices d, unnest($2::uuid[]) AS n (id) WHERE d.id = $1
            """,
            fleet.devices[0][0],
            [device_id for device_id, _ in devices],
        )
        await connection.execute(
            """
            INSERT INTO device_credentials (tenant_id, device_id, key_sha256)
            SELECT $1, n.* FROM unnest($2::uuid[], $3::bytea[]) AS n (id, digest)
            """,
            fleet.tenant_id,
            [device_id for device_id, _ in devices],
            [device_key_digest(key) for _, key in devices],
        )
        await connection.execute("ANALYZE devices, device_credentials")
    finally:
        await connection.close(timeout=10)
    return devices


if __name__ == "__main__":
    main()
