"""Measurements as a file, whatever they lie in, in bounded memory."""

import csv
import io
import tracemalloc
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from core.db.repositories import sealing
from core.db.repositories.history_import import ensure_partitions
from core.db.session import Database
from core.db.tables import MetricList, Telemetry
from tests.support.tenants import make_device, make_profile

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=30)
PATH = "/api/v1/telemetry/export"


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> UUID:
    """A device with two days of a message every 20 s, of which the first is sealed."""
    made = await make_device(owner, tenant_id, await make_profile(owner, tenant_id))
    async with owner.transaction(tenant_id) as session:
        metrics = MetricList(tenant_id=tenant_id, names=["a", "b"])
        session.add(metrics)
        await session.flush()
        await ensure_partitions(session, [DAY.date(), (DAY + timedelta(days=1)).date()])
        await session.execute(
            sa.text(
                "INSERT INTO telemetry (device_id, time, metrics_id, values) "
                "SELECT :device, :day + n * INTERVAL '20 s', :list, ARRAY[n / 4.0, NULL] "
                "FROM generate_series(0, 8639) n"
            ).bindparams(
                sa.bindparam("device", type_=sa.Uuid),
                sa.bindparam("day", type_=sa.DateTime(timezone=True)),
            ),
            {"device": made.id, "day": DAY, "list": metrics.id},
        )
        session.add(
            Telemetry(
                device_id=made.id,
                time=DAY + timedelta(days=1, seconds=1),
                metrics_id=metrics.id or 0,
                values=[-1.0, 2.0],
                quality=[50, 100],
            )
        )
    async with owner.transaction(None) as session:
        await sealing.seal_day(session, made.id, DAY.date())
    return made.id


def _span(days: float = 2, **more: str) -> dict[str, str]:
    return {
        "start_time": DAY.isoformat(),
        "end_time": (DAY + timedelta(days=days)).isoformat(),
        **more,
    }


async def test_a_csv_file_has_a_line_per_value_of_rows_and_blocks(
    client: httpx.AsyncClient, device: UUID
) -> None:
    answer = await client.get(PATH, params=_span())
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(lines) == 2 * 8641
    assert lines[2] == {
        "time": (DAY + timedelta(seconds=20)).isoformat(),
        "device_id": str(device),
        "metric": "a",
        "value": "0.25",
        "quality": "100",
    }
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    odd = [line for line in lines if line["quality"] == "50"]
    assert [line["value"] for line in odd] == ["-1.0"]


async def test_a_parquet_file_says_the_same(client: httpx.AsyncClient, device: UUID) -> None:
    answer = await client.get(PATH, params=_span(format="parquet", metrics="a"))
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.num_rows == 8641
    assert table.column_names == ["time", "device_id", "metric", "value", "quality"]
    assert set(table["metric"].to_pylist()) == {"a"}
    assert sorted(table["value"].to_pylist())[:2] == [-1.0, 0.0]


async def test_nothing_of_others_and_nothing_at_all_are_whole_files(
    client: httpx.AsyncClient, device: UUID
) -> None:
    none = await client.get(PATH, params=_span(device_ids=str(UUID(int=4))))
    assert none.text.split() == ["time,device_id,metric,value,quality"]
    empty = await client.get(PATH, params=_span(device_ids=str(UUID(int=4)), format="parquet"))
    assert pq.read_table(io.BytesIO(empty.content)).num_rows == 0
    assert (await client.get(PATH, params=_span(format="xls"))).status_code == 422


async def test_memory_does_not_grow_with_the_file(client: httpx.AsyncClient, device: UUID) -> None:
    async def peak(days: float) -> int:
        tracemalloc.start()
        try:
            async with client.stream("GET", PATH, params=_span(days)) as answer:
                async for _ in answer.aiter_bytes():
                    pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await peak(0.5)
    assert await peak(2) < 2 * await peak(0.5)
