"""Sealed measurements are the same measurements."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from core.db.repositories import (
    analytics,
    history_import,
    ingest,
    sealing,
    telemetry_buckets,
    telemetry_rows,
)
from core.db.repositories.history_import import PastMessage, ensure_partitions
from core.db.repositories.ingest_rows import RowEncoder, device_prefix
from core.db.session import Database
from core.db.tables import MetricList, SealedTelemetry, StaleHour, Telemetry
from core.settings import Settings
from tests.support.tenants import make_device, make_profile

DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=20)
NAMES = ["temperature", "state", "odd"]


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> UUID:
    return (await make_device(owner, tenant_id, await make_profile(owner, tenant_id))).id


@pytest.fixture
async def lists(owner: Database, tenant_id: UUID) -> tuple[int, int]:
    """Two metric lists."""
    async with owner.transaction(tenant_id) as session:
        wide = MetricList(tenant_id=tenant_id, names=NAMES)
        single = MetricList(tenant_id=tenant_id, names=["temperature"])
        session.add_all([wide, single])
        await session.flush()
        assert wide.id is not None
        assert single.id is not None
        return wide.id, single.id


@pytest.fixture
async def ingest_connection(
    postgres_server: Settings,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(postgres_server.database_url("ingest"), timeout=10)
    yield connection
    await connection.close()


@pytest.fixture
async def stored(
    owner: Database, tenant_id: UUID, device: UUID, lists: tuple[int, int]
) -> list[tuple[Any, ...]]:
    """Two days of a device: decimals, constants, nulls, odd numbers, jitter, scores."""
    chance = random.Random(3)
    rows: list[Telemetry] = []
    temperature = 20.0
    for number in range(1500):
        temperature = round(temperature + chance.gauss(0, 0.05), 2)
        at = DAY + timedelta(seconds=110 * number, milliseconds=chance.randrange(50))
        rows.append(
            Telemetry(
                device_id=device,
                time=at,
                metrics_id=lists[0],
                values=[temperature, 1.0, None if number % 7 == 0 else chance.random()],
                quality=[100, 40, 100] if number == 5 else None,
            )
        )
        if number % 3 == 0:
            rows.append(
                Telemetry(
                    device_id=device,
                    time=DAY + timedelta(seconds=110 * number),
                    metrics_id=lists[1],
                    values=[temperature],
                )
            )
    async with owner.transaction(None) as session:
        await ensure_partitions(session, {DAY.date(), (DAY + timedelta(days=1)).date()})
        session.add_all(rows)
        session.add_all(
            StaleHour(tenant_id=tenant_id, device_id=device, hour=DAY + timedelta(hours=n))
            for n in range(48)
        )
    return await everything(owner, device)


async def everything(database: Database, device: UUID) -> list[tuple[Any, ...]]:
    """Return what SQL users see of a device."""
    async with database.transaction(None) as session:
        rows = await session.execute(
            sa.text(
                "SELECT time, metric_name, value, quality_score FROM device_data "
                "WHERE device_id = :device ORDER BY time, metric_name, value"
            ).bindparams(sa.bindparam("device", type_=sa.Uuid)),
            {"device": device},
        )
        return [tuple(row) for row in rows]


async def rows_left(owner: Database, device: UUID) -> int:
    async with owner.transaction(None) as session:
        return (
            await session.scalar(
                sa.select(sa.func.count())
                .select_from(Telemetry)
                .where(col(Telemetry.device_id) == device)
            )
            or 0
        )


async def seal_all(owner: Database, device: UUID) -> None:
    async with owner.transaction(None) as session:
        days = await sealing.unsealed_days(session, device, DAY + timedelta(days=3), 100)
    for day in days:
        async with owner.transaction(None) as session:
            assert (await sealing.seal_day(session, device, day)).blocks


async def test_every_reader_gets_the_same_from_blocks_as_from_rows(
    owner: Database, api_database: Database, tenant_id: UUID, device: UUID, stored: list[Any]
) -> None:
    start, until = DAY + timedelta(hours=3, seconds=5), DAY + timedelta(hours=40)

    async def read() -> list[Any]:
        answers: list[Any] = []
        async with api_database.transaction(tenant_id) as session:
            for limit, newest, metrics in (
                (10, False, None),
                (10, True, None),
                (10_000, False, ["odd"]),
                (10_000, True, None),
            ):
                answers.append(
                    await telemetry_rows.messages(
                        session,
                        device,
                        start=start,
                        until=until,
                        limit=limit,
                        newest=newest,
                        metrics=metrics,
                    )
                )
            middle = answers[-1][500]
            answers.append(
                await telemetry_rows.messages(
                    session,
                    device,
                    start=start,
                    until=until,
                    limit=100,
                    after=(middle.time, middle.metrics_id),
                )
            )
            answers += [
                await telemetry_buckets.buckets(
                    session,
                    device,
                    start=start,
                    until=until,
                    width=timedelta(hours=1),
                    metrics=None,
                    limit=10_000,
                ),
                await analytics.stretch(
                    session,
                    device,
                    since=start,
                    until=until,
                    first=20,
                    recent=30,
                    count_limit=900,
                ),
            ]
        return answers

    before = await read()
    await seal_all(owner, device)
    assert await rows_left(owner, device) == 0
    assert await everything(owner, device) == stored
    assert await read() == before


async def test_late_rows_lie_beside_blocks_and_are_sealed_the_next_time(
    owner: Database, device: UUID, lists: tuple[int, int], stored: list[Any]
) -> None:
    await seal_all(owner, device)
    late = Telemetry(
        device_id=device, time=DAY + timedelta(seconds=7), metrics_id=lists[1], values=[-3.25]
    )
    # A repetition that came past the check for sealed times: what was sealed first counts.
    repeated = Telemetry(device_id=device, time=DAY, metrics_id=lists[1], values=[777.0])
    async with owner.transaction(None) as session:
        session.add_all([late, repeated])
    assert (DAY + timedelta(seconds=7), "temperature", -3.25, 100) in await everything(
        owner, device
    )
    await seal_all(owner, device)
    assert await rows_left(owner, device) == 0
    now = await everything(owner, device)
    assert sorted(now) == sorted([*stored, (DAY + timedelta(seconds=7), "temperature", -3.25, 100)])


async def test_what_is_sealed_is_not_stored_again(
    owner: Database,
    postgres_server: Settings,
    tenant_id: UUID,
    device: UUID,
    lists: tuple[int, int],
    stored: list[Any],
    ingest_connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await seal_all(owner, device)
    encoder = RowEncoder(lists[1], ("temperature",))
    microseconds = int(DAY.timestamp()) * 1_000_000
    rows = [
        encoder.one(device_prefix(device), microseconds, 1.0),
        encoder.one(device_prefix(device), microseconds + 1, 2.0),
    ]
    async with ingest_connection.transaction():
        assert await ingest.merge_telemetry(ingest_connection, rows) == 1
    database = Database.connect(postgres_server, "ingest")
    async with database.transaction(None) as session:
        again = [
            PastMessage(device, DAY, lists[1], [1.0]),
            PastMessage(device, DAY + timedelta(microseconds=2), lists[1], [2.0]),
        ]
        assert await history_import.copy_messages(session, tenant_id, again) == 1
    await database.close()
    assert await rows_left(owner, device) == 2


async def test_a_killed_sealing_changes_nothing(
    owner: Database, device: UUID, stored: list[Any]
) -> None:
    async def killed() -> None:
        async with owner.transaction(None) as session:
            assert (await sealing.seal_day(session, device, DAY.date())).rows > 500
            pid = await session.scalar(sa.select(sa.func.pg_backend_pid()))
            async with owner.transaction(None) as other:
                # The owner may end its own sessions.
                assert await other.scalar(sa.select(sa.func.pg_terminate_backend(pid)))

    with pytest.raises(DBAPIError):
        await killed()
    async with owner.transaction(None) as session:
        assert not await session.scalar(
            sa.select(sa.func.count())
            .select_from(SealedTelemetry)
            .where(col(SealedTelemetry.device_id) == device)
        )
    assert await everything(owner, device) == stored
    await seal_all(owner, device)
    assert await everything(owner, device) == stored


async def test_a_block_that_would_lose_something_is_refused(
    owner: Database, device: UUID, stored: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(rows: Any) -> Any:
        return seal([(time, [1.0 for _ in values], quality) for time, values, quality in rows])

    seal = sealing.seal
    monkeypatch.setattr(sealing, "seal", lossy)
    with pytest.raises(sealing.NotLosslessError):
        async with owner.transaction(None) as session:
            await sealing.seal_day(session, device, DAY.date())
    assert await everything(owner, device) == stored


async def test_the_space_of_a_sealed_day_is_given_back(
    owner: Database, device: UUID, stored: list[Any]
) -> None:
    async with owner.transaction(None) as session:
        await session.execute(sa.delete(Telemetry).where(col(Telemetry.device_id) != device))
        assert not await sealing.reclaim(session, DAY.date())
    await seal_all(owner, device)
    async with owner.transaction(None) as session:
        assert await sealing.reclaim(session, DAY.date())
        assert not await sealing.reclaim(session, (DAY - timedelta(days=300)).date())
    assert await everything(owner, device) == stored
