"""History is imported once, and read back as it was."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest
import sqlalchemy as sa

from core.db.session import Database
from core.errors import ConflictError, InvalidInputError
from core.settings import Settings
from mlops.cycles import observe
from mlops.features import BASELINE
from mlops.history import HistoricalDevice, ImportProgress, import_history
from tests.support.engines import METRICS, fleet, wearing
from tests.support.tenants import make_profile, make_tenant

END = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def profile_id(owner: Database, tenant_id: UUID) -> UUID:
    return await make_profile(owner, tenant_id, "engine")


async def count(database: Database, tenant_id: UUID, table: str) -> int:
    async with database.transaction(tenant_id) as session:
        return await session.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0


async def test_devices_messages_and_failures_are_stored(
    postgres_server: Settings, worker_database: Database, tenant_id: UUID, profile_id: UUID
) -> None:
    devices = fleet(12)
    seen: list[int] = []

    def progress(now: ImportProgress) -> None:
        seen.append(now.devices)

    done = await import_history(
        postgres_server, tenant_id, profile_id, devices, progress, ending_at=END
    )
    messages = sum(len(device.cycles) for device in devices)
    assert (done.devices, done.added, done.messages) == (12, 12, messages)
    assert seen == [10, 12]
    assert await count(worker_database, tenant_id, "telemetry") == messages
    assert await count(worker_database, tenant_id, "device_data") == messages * len(METRICS)
    async with worker_database.transaction(tenant_id) as session:
        rows = await session.execute(
            sa.text(
                "SELECT d.name, d.lifecycle, e.time, l.time, l.values FROM devices d "
                "JOIN device_events e ON e.device_id = d.id AND e.name = 'failure' "
                "JOIN telemetry_latest l ON l.device_id = d.id ORDER BY d.name"
            )
        )
        first = rows.all()[0]
    assert tuple(first[:4]) == ("engine-000", "decommissioned", END, END)
    assert first[4] == devices[0].cycles[-1].tolist()


async def test_a_second_import_adds_nothing(
    postgres_server: Settings, worker_database: Database, tenant_id: UUID, profile_id: UUID
) -> None:
    healthy = HistoricalDevice("healthy", METRICS, wearing(50), failed=False)
    devices = [*fleet(3), healthy]
    await import_history(postgres_server, tenant_id, profile_id, devices, ending_at=END)
    before = await count(worker_database, tenant_id, "telemetry")
    later = END + timedelta(days=3)
    failed = await import_history(
        postgres_server, tenant_id, profile_id, devices[:3], ending_at=later
    )
    assert (failed.added, failed.messages) == (0, 0)
    again = await import_history(postgres_server, tenant_id, profile_id, devices, ending_at=END)
    assert again.messages == 0
    assert await count(worker_database, tenant_id, "telemetry") == before
    assert await count(worker_database, tenant_id, "devices") == 4
    assert await count(worker_database, tenant_id, "device_events") == 3


async def test_an_older_history_does_not_replace_the_latest_value(
    postgres_server: Settings, worker_database: Database, tenant_id: UUID, profile_id: UUID
) -> None:
    device = HistoricalDevice("healthy", METRICS, wearing(1), failed=False)
    for end in (END, END - timedelta(days=30)):
        await import_history(postgres_server, tenant_id, profile_id, [device], ending_at=end)
    async with worker_database.transaction(tenant_id) as session:
        assert await session.scalar(sa.text("SELECT time FROM telemetry_latest")) == END


async def test_a_name_of_another_profile_is_a_conflict(
    postgres_server: Settings, owner: Database, tenant_id: UUID, profile_id: UUID
) -> None:
    other = await make_profile(owner, tenant_id, "pump")
    healthy = [replace(fleet(1)[0], failed=False)]
    await import_history(postgres_server, tenant_id, other, healthy, ending_at=END)
    with pytest.raises(ConflictError, match="engine-000"):
        await import_history(postgres_server, tenant_id, profile_id, healthy, ending_at=END)
    # One that has failed is out of service, where names may come twice.
    done = await import_history(postgres_server, tenant_id, profile_id, fleet(1), ending_at=END)
    assert done.added == 1


async def test_a_history_of_the_wrong_shape_is_refused(
    postgres_server: Settings, tenant_id: UUID, profile_id: UUID
) -> None:
    for cycles in (np.empty((0, 3)), np.ones((5, 2))):
        device = HistoricalDevice("odd", METRICS, cycles)
        with pytest.raises(InvalidInputError, match="odd"):
            await import_history(postgres_server, tenant_id, profile_id, [device])


async def test_a_life_is_read_back_in_order_and_within_bounds(
    postgres_server: Settings, worker_database: Database, tenant_id: UUID, profile_id: UUID
) -> None:
    cycles = wearing(9, 100)
    cycles[40, 1] = np.nan
    device = HistoricalDevice("one", METRICS, cycles)
    await import_history(postgres_server, tenant_id, profile_id, [device], ending_at=END)
    async with worker_database.transaction(tenant_id) as session:
        device_id = await session.scalar(sa.text("SELECT id FROM devices"))
        assert device_id is not None
        whole = await observe(session, device_id, recent=1000)
        part = await observe(session, device_id, recent=30)
        early = await observe(session, device_id, recent=30, until=END - timedelta(hours=50))
        nothing = await observe(session, device_id, recent=30, since=END)
    np.testing.assert_array_equal(whole.history.recent, cycles)
    np.testing.assert_array_equal(part.history.recent, cycles[-30:])
    np.testing.assert_array_equal(part.history.first, cycles[:BASELINE])
    assert part.history.total == 100
    assert part.times[-1] == END
    np.testing.assert_array_equal(early.history.recent, cycles[20:50])
    assert early.history.total == 50
    assert nothing.history.total == 0


async def test_another_tenant_sees_none_of_it(
    postgres_server: Settings,
    owner: Database,
    worker_database: Database,
    tenant_id: UUID,
    profile_id: UUID,
) -> None:
    await import_history(postgres_server, tenant_id, profile_id, fleet(1), ending_at=END)
    stranger = await make_tenant(owner)
    async with worker_database.transaction(tenant_id) as session:
        device_id = await session.scalar(sa.text("SELECT id FROM devices"))
        assert device_id is not None
    async with worker_database.transaction(stranger) as session:
        assert (await observe(session, device_id, recent=10)).history.total == 0
