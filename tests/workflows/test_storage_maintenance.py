"""The tenants' storage policies are applied, whatever is killed or repeated."""

import dataclasses
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from redis.asyncio import Redis
from sqlmodel import col
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.storage import StorageActivities
from core.db.repositories.history_import import ensure_partitions
from core.db.session import Database
from core.db.tables import (
    MetricList,
    MinuteRollup,
    SealedTelemetry,
    StoragePolicy,
    Telemetry,
)
from core.settings import Settings
from core.temporal.names import STORAGE_SCHEDULE, TaskQueue, WorkflowType
from core.temporal.storage_contracts import StorageDone, StorageInput, TenantStorageInput
from tests.support.durable import opened_resources, skipping_time, working
from tests.support.tenants import make_device, make_profile
from workers.schedules import make_storage_schedule
from workflows.storage_maintenance import StorageMaintenance

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
AGES = (1, 5, 12, 40)


async def _fill(owner: Database, tenant_id: UUID) -> list[UUID]:
    """Make two devices with a minute of measurements in days of several ages."""
    profile = await make_profile(owner, tenant_id)
    devices = [(await make_device(owner, tenant_id, profile)).id for _ in range(2)]
    async with owner.transaction(tenant_id) as session:
        metrics = MetricList(tenant_id=tenant_id, names=["a"])
        session.add(metrics)
        await session.flush()
        assert metrics.id is not None
        days = [TODAY - timedelta(days=age) for age in AGES]
        await ensure_partitions(session, [day.date() for day in days])
        for day in days:
            await session.execute(sa.select(sa.func.ensure_rollup_partitions(day.date())))
        for device_id in devices:
            for day in days:
                session.add_all(
                    Telemetry(
                        device_id=device_id,
                        time=day + timedelta(hours=5, seconds=n),
                        metrics_id=metrics.id,
                        values=[float(n)],
                    )
                    for n in range(60)
                )
                session.add(
                    MinuteRollup(
                        device_id=device_id,
                        bucket=day,
                        metrics_id=metrics.id,
                        counts=[1],
                        mins=[1.0],
                        maxs=[1.0],
                        sums=[1.0],
                        lasts=[1.0],
                        p95s=[1.0],
                        newest=day,
                    )
                )
    return devices


async def _ages(owner: Database, devices: list[UUID]) -> dict[str, set[int]]:
    """Return of how many days ago there is what."""
    tables = {
        "rows": (Telemetry, Telemetry.time),
        "sealed": (SealedTelemetry, SealedTelemetry.first),
        "minutes": (MinuteRollup, MinuteRollup.bucket),
    }
    found: dict[str, set[int]] = {}
    async with owner.transaction(None) as session:
        for name, (table, time) in tables.items():
            days = await session.scalars(
                sa.select(sa.cast(col(time), sa.Date)).where(col(table.device_id).in_(devices))
            )
            found[name] = {(TODAY.date() - day).days for day in days}
    return found


async def _decide(owner: Database, tenant_id: UUID) -> None:
    async with owner.transaction(tenant_id) as session:
        session.add(
            StoragePolicy(tenant_id=tenant_id, raw_days=30, minute_days=10, seal_after_days=4)
        )


async def test_policies_are_applied_to_every_tenant(
    settings: Settings, owner: Database, worker_database: Database, bus: Redis, tenant_id: UUID
) -> None:
    devices = await _fill(owner, tenant_id)
    await _decide(owner, tenant_id)
    async with (
        skipping_time(settings) as environment,
        opened_resources(settings, worker_database, bus) as resources,
        working(
            environment.client,
            [StorageMaintenance],
            {TaskQueue.MAINTENANCE: [StorageActivities(resources, owner)]},
        ),
    ):

        async def run() -> StorageDone:
            return await environment.client.execute_workflow(
                WorkflowType.STORAGE_MAINTENANCE,
                StorageInput(remaining=(tenant_id,)),
                id=f"storage-{uuid4()}",
                task_queue=TaskQueue.AUTOMATION,
                result_type=StorageDone,
            )

        done = await run()
        assert (done.tenants, done.failed, done.devices) == (1, 0, 2)
        assert done.sealed_rows == 2 * 2 * 60
        assert await _ages(owner, devices) == {
            "rows": {1},
            "sealed": {5, 12},
            "minutes": {1, 5},
        }
        again = await run()
        assert (again.sealed_rows, again.expired) == (0, 0)
        assert await _ages(owner, devices) == {
            "rows": {1},
            "sealed": {5, 12},
            "minutes": {1, 5},
        }


async def test_an_attempt_goes_on_from_the_heartbeat_of_the_one_before(
    settings: Settings, owner: Database, worker_database: Database, bus: Redis, tenant_id: UUID
) -> None:
    devices = sorted(await _fill(owner, tenant_id))
    await _decide(owner, tenant_id)
    async with opened_resources(settings, worker_database, bus) as resources:
        environment = ActivityEnvironment()
        environment.info = ActivityEnvironment.default_info()
        beats: list[tuple[object, ...]] = []
        environment.on_heartbeat = lambda *details: beats.append(details)
        work = StorageActivities(resources, owner)
        whole = await environment.run(work.apply, TenantStorageInput(tenant_id=tenant_id))
        assert whole.devices == 2
        assert [beat[1] for beat in beats if beat][-1] == str(devices[-1])
        environment.info = dataclasses.replace(
            environment.info,
            heartbeat_details=[StorageDone(devices=1).model_dump(), str(devices[0])],
        )
        rest = await environment.run(work.apply, TenantStorageInput(tenant_id=tenant_id))
        assert (rest.devices, rest.tenants) == (2, 1)


async def test_the_schedule_is_made_once(temporal_client: Client) -> None:
    await make_storage_schedule(temporal_client)
    await make_storage_schedule(temporal_client)
    described = await temporal_client.get_schedule_handle(STORAGE_SCHEDULE).describe()
    assert described.schedule.policy.catchup_window == timedelta(hours=1)
    await temporal_client.get_schedule_handle(STORAGE_SCHEDULE).delete()
