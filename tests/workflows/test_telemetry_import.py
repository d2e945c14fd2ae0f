"""Every row of a file is dealt with once, and counted once, however often its worker dies."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlmodel import col, select
from temporalio.client import Client

from activities.telemetry_import import ImportActivities
from core.db.session import Database
from core.db.tables import (
    ImportRefusal,
    LatestTelemetry,
    StaleHour,
    TelemetryImport,
    TriggerOutbox,
)
from core.imports.files import file_of
from core.settings import Settings
from core.temporal.import_contracts import ImportResult
from core.temporal.names import TaskQueue
from tests.broker.conftest import broker_running
from tests.broker.ingest.test_triggers import HOT, publish
from tests.support.durable import opened_resources, working
from tests.support.imports import START, begin, line, prepare
from tests.support.tenants import MadeDevice, make_device, make_profile
from tests.support.waiting import eventually
from workflows.telemetry_import import TelemetryImport as Workflow


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    return await make_device(
        owner, tenant_id, await make_profile(owner, tenant_id, "engine"), "engine-1"
    )


@pytest.fixture
async def at_work(
    postgres_server: Settings, worker_database: Database, bus: Redis, temporal_client: Client
) -> AsyncIterator[None]:
    async with (
        opened_resources(postgres_server, worker_database, bus) as resources,
        working(
            temporal_client, [Workflow], {TaskQueue.MAINTENANCE: [ImportActivities(resources)]}
        ),
    ):
        yield


async def count(owner: Database, device: MadeDevice) -> int:
    async with owner.transaction(None) as session:
        statement = sa.text("SELECT count(*) FROM telemetry WHERE device_id = :id")
        return await session.scalar(statement, {"id": device.id}) or 0


async def load(owner: Database, import_id: UUID) -> TelemetryImport:
    async with owner.transaction(None) as session:
        row = await session.get(TelemetryImport, import_id)
    assert row is not None
    return row


@pytest.mark.usefixtures("at_work")
async def test_good_rows_are_stored_once_and_bad_ones_kept_with_their_reasons(
    postgres_server: Settings,
    owner: Database,
    temporal_client: Client,
    tenant_id: UUID,
    device: MadeDevice,
) -> None:
    lines = [line(1, value=10), line(2), line(1), "engine-1,never,1", line(3, "nobody"), "x,y"]
    first = await prepare(postgres_server, owner, tenant_id, lines)
    result = await (await begin(temporal_client, tenant_id, first)).result()
    assert result == ImportResult(
        status="completed", rows_read=6, stored=2, duplicates=1, refused=3
    )
    assert await count(owner, device) == 2
    async with owner.transaction(tenant_id) as session:
        refused = await session.execute(
            select(ImportRefusal.row, ImportRefusal.column_name, ImportRefusal.code)
            .where(col(ImportRefusal.import_id) == first)
            .order_by(col(ImportRefusal.row))
        )
        assert [tuple(row) for row in refused] == [
            (4, "ts", "invalid_time"),
            (5, "device", "unknown_device"),
            (6, "", "wrong_columns"),
        ]
    row = await load(owner, first)
    assert (row.status, row.fraction) == ("completed", 1.0)
    assert row.ended_at is not None
    assert not file_of(postgres_server.imports, first, "csv").exists()

    # The same file again, and an older row: nothing twice, and the latest value stays.
    second = await prepare(postgres_server, owner, tenant_id, [*lines[:3], line(-5, value=99)])
    result = await (await begin(temporal_client, tenant_id, second)).result()
    assert (result.stored, result.duplicates, result.refused) == (1, 3, 0)
    async with owner.transaction(tenant_id) as session:
        latest = await session.scalar(
            select(LatestTelemetry.time).where(col(LatestTelemetry.device_id) == device.id)
        )
        # Roll-ups know that these hours have changed.
        hours = await session.scalars(
            select(StaleHour.hour).where(col(StaleHour.device_id) == device.id)
        )
        assert set(hours) == {START, START - timedelta(hours=1)}
    assert latest == START + timedelta(seconds=2)


@pytest.mark.usefixtures("at_work", "valkey_server")
async def test_triggers_judge_the_past_only_when_that_is_asked_for(
    postgres_server: Settings,
    owner: Database,
    temporal_client: Client,
    tenant_id: UUID,
    device: MadeDevice,
) -> None:
    await publish(owner, tenant_id, HOT)

    async def fired() -> int:
        async with owner.transaction(tenant_id) as session:
            rows = await session.scalars(
                select(TriggerOutbox.id).where(col(TriggerOutbox.tenant_id) == tenant_id)
            )
            return len(rows.all())

    async with broker_running(postgres_server):
        for asked, rows, expected in ((False, range(5), 0), (True, range(5, 10), 1)):
            lines = [line(number, value=200) for number in rows]
            made = await prepare(postgres_server, owner, tenant_id, lines, fire_triggers=asked)
            result = await (await begin(temporal_client, tenant_id, made)).result()
            assert (result.status, result.stored) == ("completed", 5)
            assert await fired() == expected
    assert await count(owner, device) == 10


@pytest.mark.usefixtures("at_work")
async def test_a_cancelled_import_stores_no_more_and_a_lost_file_fails(
    postgres_server: Settings,
    owner: Database,
    temporal_client: Client,
    tenant_id: UUID,
    device: MadeDevice,
) -> None:
    cancelled = await prepare(postgres_server, owner, tenant_id, [line(1)])
    lost = await prepare(postgres_server, owner, tenant_id, [line(2)])
    async with owner.transaction(tenant_id) as session:
        await session.execute(
            sa.update(TelemetryImport)
            .where(col(TelemetryImport.id) == cancelled)
            .values(status="cancelled")
        )
    file_of(postgres_server.imports, lost, "csv").unlink()
    for import_id, status in ((cancelled, "cancelled"), (lost, "failed")):
        result = await (await begin(temporal_client, tenant_id, import_id)).result()
        assert result.status == status
        assert not file_of(postgres_server.imports, import_id, "csv").exists()
    assert (await load(owner, lost)).error == "the uploaded file is gone"
    assert await count(owner, device) == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_killed_worker_costs_no_row_and_counts_none_twice(
    postgres_server: Settings,
    valkey_server: Settings,
    owner: Database,
    worker_database: Database,
    bus: Redis,
    temporal_client: Client,
    tenant_id: UUID,
    device: MadeDevice,
) -> None:
    total = 100_000
    lines = (line(number, value=number if number % 1000 else "bad") for number in range(total))
    import_id = await prepare(postgres_server, owner, tenant_id, lines)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.import_worker"
    )
    try:
        handle = await begin(temporal_client, tenant_id, import_id)

        async def under_way() -> bool:
            return (await load(owner, import_id)).rows_read > 0

        await eventually(under_way, timeout=60)
    finally:
        worker.kill()
        await worker.wait()
    done = (await load(owner, import_id)).rows_read
    assert 0 < done < total
    async with (
        opened_resources(postgres_server, worker_database, bus) as resources,
        working(
            temporal_client, [Workflow], {TaskQueue.MAINTENANCE: [ImportActivities(resources)]}
        ),
    ):
        result = await handle.result()
    bad = total // 1000
    assert result == ImportResult(
        status="completed", rows_read=total, stored=total - bad, duplicates=0, refused=bad
    )
    assert await count(owner, device) == total - bad
