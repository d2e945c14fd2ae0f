"""Bytes a value on disk, index included: as rows and sealed, against a row per value.

`python -m benchmarks.storage [--devices 2]`. The value is the sealed size at one metric; every size
and the ratio to a row per value are further keys.

The data, made from a fixed seed: a day of each device, a message every 10 s whose time stamp (in
milliseconds) is off by up to 20 ms; every metric a random walk with two decimals (normal steps of
0.05). Rows arrive in the order of time, all devices in turn, which is the worst for the index of
unsealed rows: its pages split in the middle. `turbofan` are the 21 sensors of the engines in
examples/, as they were recorded, a message a minute.
"""

import argparse
import asyncio
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np

from benchmarks.support.result import report
from benchmarks.support.stack import data_servers
from core.db.repositories import sealing
from core.db.session import Database
from core.settings import Settings

_DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=30)
_MESSAGES = 8640
_TURBOFAN = Path("examples/turbofan/train_FD001.txt.gz")

Row = tuple[UUID, datetime, int, list[float]]


def _walks(devices: int, metrics: int) -> Iterator[Row]:
    chance = np.random.default_rng(7)
    steps = np.round(chance.normal(0, 0.05, (devices, _MESSAGES, metrics)), 2)
    values = np.round(20 + np.cumsum(steps, axis=1), 2)
    late = chance.integers(-20, 21, (devices, _MESSAGES))
    for device in range(devices):
        for n in range(_MESSAGES):
            at = _DAY + timedelta(seconds=10 * n + 1, milliseconds=int(late[device, n]))
            yield UUID(int=device + 1), at, metrics, values[device, n].tolist()


def _turbofan(devices: int) -> Iterator[Row]:
    with gzip.open(_TURBOFAN, "rt") as file:
        sensors = [[float(word) for word in line.split()[5:26]] for line in file]
    for device in range(devices):
        for n in range(1440):
            row = sensors[(device * 1440 + n) % len(sensors)]
            yield UUID(int=device + 1), _DAY + timedelta(minutes=n), 21, row


async def _measure(settings: Settings, rows: list[Row]) -> tuple[float, float, float]:
    """Return bytes a value as a row per value, as rows, and sealed."""
    values = sum(len(row[3]) for row in rows)
    admin: asyncpg.Connection[Any] = await asyncpg.connect(settings.admin_database_url)
    database = Database.connect(settings, "owner")
    try:
        await admin.execute("TRUNCATE telemetry, telemetry_sealed")
        await admin.execute("SELECT ensure_telemetry_partition($1)", _DAY.date())
        await admin.execute(
            "DROP TABLE IF EXISTS row_per_value; CREATE TABLE row_per_value ("
            "time timestamptz, device_id uuid, tenant_id uuid, metric_name text, "
            "value float8, metadata jsonb DEFAULT '{}', quality_score int DEFAULT 100, "
            "PRIMARY KEY (device_id, metric_name, time))"
        )
        rows.sort(key=lambda row: row[1])  # as it arrives
        await admin.copy_records_to_table(
            "telemetry", records=rows, columns=["device_id", "time", "metrics_id", "values"]
        )
        await admin.copy_records_to_table(
            "row_per_value",
            records=[
                (time, device, UUID(int=9), f"metric_{n:02}", value)
                for device, time, _, row in rows
                for n, value in enumerate(row)
            ],
            columns=["time", "device_id", "tenant_id", "metric_name", "value"],
        )
        partition = f"telemetry_p{_DAY:%Y%m%d}"
        size = "SELECT pg_total_relation_size($1::text::regclass)"
        per_value = await admin.fetchval(size, "row_per_value")
        unsealed = await admin.fetchval(size, partition)
        for device in {row[0] for row in rows}:
            async with database.transaction(None) as session:
                await sealing.seal_day(session, device, _DAY.date())
        assert not await admin.fetchval("SELECT EXISTS (SELECT FROM telemetry)")
        sealed = await admin.fetchval(size, "telemetry_sealed")
        return per_value / values, unsealed / values, sealed / values
    finally:
        await database.close()
        await admin.close()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=2)
    devices = parser.parse_args().devices
    figures: dict[str, float] = {}
    with data_servers() as settings:
        # At one metric more devices, or the least sizes of tables and indexes would count.
        kinds = [(f"{n}", list(_walks(devices * 20 // n, n))) for n in (1, 5, 20)]
        for name, rows in (*kinds, ("turbofan", list(_turbofan(devices)))):
            per_value, unsealed, sealed = asyncio.run(_measure(settings, rows))
            figures |= {
                f"row_per_value_{name}": per_value,
                f"unsealed_{name}": unsealed,
                f"sealed_{name}": sealed,
            }
            print(
                f"{name:>8}: a row per value {per_value:6.1f}, rows {unsealed:6.1f}, "
                f"sealed {sealed:5.2f} bytes a value"
            )
    report(
        "storage",
        figures["sealed_1"],
        "bytes/value",
        figures["row_per_value_1"],
        figures["sealed_1"] / figures["row_per_value_1"],
        **{name: round(value, 2) for name, value in figures.items()},
    )


if __name__ == "__main__":
    main()
