"""Milliseconds in the database of the reads that people wait for, p95, as the API's role.

`python -m benchmarks.query [--rows 2000000] [--repeat 40]`. The value is the worst p95 of the four;
each has a key. They are of planning and running in the database, by EXPLAIN ANALYZE of exactly the
statements that the repositories send. The baseline is the same day by 5m summed up from its rows.

The data: devices that send one metric a second for one day, as many as `--rows` asks for; one that
sends one metric a minute for 30 days; 10,000 devices with a newest value. A day is a partition with
an index by device and time, so what a read costs depends on the rows it returns: `--rows` shows it.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.support.result import report
from benchmarks.support.stack import data_servers
from core.db.repositories import history_import, rollups, telemetry, telemetry_buckets
from core.db.repositories import telemetry_rows as rows
from core.db.session import Database
from core.db.tables import MetricList
from core.settings import Settings
from tests.support.tenants import make_profile, make_tenant

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = TODAY - timedelta(days=2)
_HOUR = timedelta(hours=1)
_FLEET = 10_000

_FILL = sa.text(
    "INSERT INTO telemetry (device_id, time, metrics_id, values) "
    "SELECT d.id, t, :list, ARRAY[round((20 + 5 * random())::numeric, 2)::float8] "
    "FROM generate_series(CAST(:start AS timestamptz), :last, CAST(:step AS interval)) AS t, "
    "unnest(CAST(:devices AS uuid[])) AS d (id)"
).bindparams(
    sa.bindparam("devices", type_=sa.ARRAY(sa.Uuid)),
    sa.bindparam("step", type_=sa.Interval),
    sa.bindparam("start", type_=sa.DateTime(timezone=True)),
    sa.bindparam("last", type_=sa.DateTime(timezone=True)),
)


async def _fill(owner: Database, tenant_id: UUID, every_second: list[UUID], slow: UUID) -> None:
    profile = await make_profile(owner, tenant_id)
    async with owner.transaction(tenant_id) as session:
        metrics = MetricList(tenant_id=tenant_id, names=["temperature"])
        session.add(metrics)
        await session.flush()
        days = [TODAY - timedelta(days=n) for n in range(1, 32)]
        await history_import.ensure_partitions(session, [day.date() for day in days])
        for devices, start, last, step in (
            (every_second, DAY, DAY + timedelta(days=1, seconds=-1), timedelta(seconds=1)),
            ([slow], days[-1], TODAY - timedelta(days=1, minutes=1), timedelta(minutes=1)),
        ):
            place = {"devices": devices, "list": metrics.id, "start": start, "last": last}
            await session.execute(_FILL, place | {"step": step})
        await session.execute(
            sa.text(
                "WITH made AS (INSERT INTO devices (tenant_id, profile_id, name) "
                "SELECT :tenant, :profile, 'd' || n FROM generate_series(1, :count) n "
                "RETURNING id) INSERT INTO telemetry_latest "
                "(device_id, metrics_id, tenant_id, time, values) "
                "SELECT id, :list, :tenant, now(), ARRAY[21.5] FROM made"
            ).bindparams(
                sa.bindparam("tenant", type_=sa.Uuid), sa.bindparam("profile", type_=sa.Uuid)
            ),
            {"tenant": tenant_id, "profile": profile, "count": _FLEET, "list": metrics.id},
        )
        hours = {(every_second[0], DAY + _HOUR * n) for n in range(24)}
        hours |= {(slow, days[-1] + _HOUR * n) for n in range(30 * 24)}
        await session.execute(sa.update(rollups.RollupProgress).values(until=TODAY))
        await rollups.repeat(session, hours, until=TODAY)
    async with owner.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text("ANALYZE"))


async def _p95(
    database: Database,
    tenant_id: UUID,
    read: Callable[[AsyncSession], Awaitable[object]],
    repeat: int,
) -> float:
    """Return the p95 of what the statements of a read take: planned and run, in the database."""
    times: list[float] = []
    for _ in range(repeat + 3):
        statements: list[tuple[str, Any]] = []

        def note(_c: Any, _k: Any, text: str, given: Any, *_: Any, to: Any = statements) -> None:
            to.append((text, given))

        async with database.transaction(tenant_id) as session:
            event.listen(database.engine.sync_engine, "before_cursor_execute", note)
            try:
                await read(session)
            finally:
                event.remove(database.engine.sync_engine, "before_cursor_execute", note)
            connection = await session.connection()
            spent = 0.0
            for text, given in statements:
                plan = (
                    await connection.exec_driver_sql(
                        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {text}", given
                    )
                ).scalar_one()
                (found,) = json.loads(plan) if isinstance(plan, str) else plan
                spent += found["Planning Time"] + found["Execution Time"]
            times.append(spent)
    return sorted(times[3:])[int(0.95 * repeat)]  # the first ones warm the caches


async def _measure(settings: Settings, wanted: int, repeat: int) -> dict[str, float]:
    owner = Database.connect(settings, "owner", statement_timeout=1800)
    api = Database.connect(settings, "api")
    tenant_id = await make_tenant(owner)
    fast, slow = [uuid4() for _ in range(max(1, wanted // 86_400))], uuid4()
    await _fill(owner, tenant_id, fast, slow)

    def by(device: UUID, start: datetime, days: int, width: timedelta):  # noqa: ANN202
        return lambda session: telemetry_buckets.buckets(
            session,
            device,
            start=start,
            until=start + timedelta(days=days),
            width=width,
            metrics=None,
            limit=200_000,
        )

    def raw_hour(session: AsyncSession) -> Awaitable[object]:
        start = DAY + 5 * _HOUR
        return rows.messages(session, fast[-1], start=start, until=start + _HOUR, limit=10_000)

    def newest(session: AsyncSession) -> Awaitable[object]:
        return telemetry.latest_of(
            session, devices=None, profile=None, site=None, after=None, limit=_FLEET
        )

    reads = {
        "day_by_5m": by(fast[0], DAY, 1, timedelta(minutes=5)),
        "month_by_1h": by(slow, TODAY - timedelta(days=31), 30, _HOUR),
        "latest_of_10000": newest,
        "raw_hour": raw_hour,
    }
    found = {name: await _p95(api, tenant_id, read, repeat) for name, read in reads.items()}
    async with owner.transaction(None) as session:
        await session.execute(sa.text("UPDATE rollup_progress SET until = '2000-01-01 00:00:00Z'"))
    found["day_by_5m_from_rows"] = await _p95(api, tenant_id, reads["day_by_5m"], 5)
    await owner.close()
    await api.close()
    return found


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="in the day that is read")
    parser.add_argument("--repeat", type=int, default=40, help="of each read")
    options = parser.parse_args()
    with data_servers() as settings:
        found = asyncio.run(_measure(settings, options.rows, options.repeat))
    slowest = max(value for name, value in found.items() if name != "day_by_5m_from_rows")
    baseline = found["day_by_5m_from_rows"]
    ratio = found["day_by_5m"] / baseline
    more = {f"{name}_ms": value for name, value in found.items()}
    report("query", slowest, "ms", baseline, ratio, rows=float(options.rows), **more)


if __name__ == "__main__":
    main()
