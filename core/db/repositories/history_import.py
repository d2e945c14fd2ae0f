"""Bulk import of the past: devices by the workers' role, measurements by the ingest role."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.repositories.ingest import SEALING_LOCK
from core.db.tables import Device, DeviceEvent, MetricList


@dataclass(frozen=True, slots=True)
class PastMessage:
    """One message of the past; its values follow the metric list `metrics_id`."""

    device_id: UUID
    time: datetime
    metrics_id: int
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class PastEvent:
    """One event of the past."""

    device_id: UUID
    time: datetime
    name: str
    data: dict[str, Any]


async def add_devices(session: AsyncSession, devices: Sequence[dict[str, Any]]) -> None:
    """Insert devices; one whose id or name exists stays as it is."""
    await session.execute(insert(Device).values(list(devices)).on_conflict_do_nothing())


async def devices_by_name(
    session: AsyncSession, names: Sequence[str], made: Sequence[UUID]
) -> dict[str, tuple[UUID, UUID]]:
    """Return id and profile of the tenant's devices of these names.

    Of several with one name, one of those in `made` counts, else the one in service.
    """
    rows = await session.execute(
        select(Device.name, Device.id, Device.profile_id)
        .where(col(Device.name).in_(names))
        .order_by(
            col(Device.id).in_(made),
            col(Device.lifecycle) != "decommissioned",
            col(Device.created_at),
        )
    )
    return {name: (device_id, profile_id) for name, device_id, profile_id in rows}


async def devices_with_event(
    session: AsyncSession, device_ids: Sequence[UUID], event: str
) -> set[UUID]:
    """Return which of these devices have an event of this name."""
    rows = await session.scalars(
        select(DeviceEvent.device_id).where(
            col(DeviceEvent.device_id).in_(device_ids), DeviceEvent.name == event
        )
    )
    return set(rows)


async def metric_list(session: AsyncSession, tenant_id: UUID, names: Sequence[str]) -> int:
    """Return the number of a tenant's metric list, made if it is new."""
    wanted = list(names)
    await session.execute(
        insert(MetricList).values(tenant_id=tenant_id, names=wanted).on_conflict_do_nothing()
    )
    # The ingest role sees every tenant's lists, hence the tenant here.
    number = await session.scalar(
        select(MetricList.id).where(
            MetricList.tenant_id == tenant_id,
            col(MetricList.names) == sa.cast(wanted, ARRAY(sa.Text)),
        )
    )
    assert number is not None
    return number


async def count_lists(session: AsyncSession, tenant_id: UUID) -> int:
    """Return how many metric lists a tenant has."""
    return (
        await session.scalar(
            select(sa.func.count()).select_from(MetricList).where(MetricList.tenant_id == tenant_id)
        )
        or 0
    )


async def ensure_partitions(session: AsyncSession, days: Iterable[date]) -> None:
    """Make sure that measurements of these days (UTC) have a place of their own."""
    for day in sorted(set(days)):
        await session.execute(sa.select(sa.func.ensure_telemetry_partition(sa.cast(day, sa.Date))))


async def copy_messages(
    session: AsyncSession, tenant_id: UUID, messages: Sequence[PastMessage]
) -> int:
    """Store messages; those that are stored already are left out. Returns how many were new.

    Needs the ingest role and partitions for the days. The newest message of each device becomes
    its latest value unless a newer one is known.
    """
    await session.execute(
        sa.text(
            "CREATE TEMPORARY TABLE past_messages (device_id uuid, time timestamptz, "
            "metrics_id integer, values float8[]) ON COMMIT DROP"
        )
    )
    raw = await (await session.connection()).get_raw_connection()
    assert raw.driver_connection is not None
    await raw.driver_connection.copy_records_to_table(
        "past_messages",
        records=[(m.device_id, m.time, m.metrics_id, list(m.values)) for m in messages],
        columns=["device_id", "time", "metrics_id", "values"],
        timeout=60,
    )
    await session.execute(
        sa.text(
            """
            SELECT pg_advisory_xact_lock_shared(:lock, day) FROM (
                SELECT DISTINCT (time AT TIME ZONE 'UTC')::date - DATE '2000-01-01' AS day
                FROM past_messages ORDER BY day
            ) AS old
            """
        ),
        {"lock": SEALING_LOCK},
    )
    await session.execute(
        sa.text(
            """
            DELETE FROM past_messages p
            USING (
                SELECT device_id, metrics_id, min(time) AS first, max(time) AS last
                FROM past_messages GROUP BY 1, 2
            ) AS old
            CROSS JOIN LATERAL telemetry_sealed_times(
                old.device_id, old.metrics_id, old.first, old.last + INTERVAL '1 microsecond'
            ) AS sealed (time)
            WHERE p.device_id = old.device_id AND p.metrics_id = old.metrics_id
              AND p.time = sealed.time
            """
        )
    )
    # No conflict target: naming one would need the right to read the table.
    stored = await session.execute(
        sa.text(
            "INSERT INTO telemetry (device_id, time, metrics_id, values) "
            "SELECT device_id, time, metrics_id, values FROM past_messages ON CONFLICT DO NOTHING"
        )
    )
    await session.execute(
        sa.text(
            "INSERT INTO rollup_stale (tenant_id, device_id, hour) "
            "SELECT DISTINCT CAST(:tenant AS uuid), device_id, "
            "date_bin('1 hour', time, TIMESTAMPTZ '2000-01-01 00:00:00Z') FROM past_messages"
        ).bindparams(sa.bindparam("tenant", type_=sa.Uuid)),
        {"tenant": tenant_id},
    )
    await session.execute(
        sa.text(
            """
            INSERT INTO telemetry_latest (device_id, metrics_id, tenant_id, time, values)
            SELECT DISTINCT ON (device_id, metrics_id) device_id, metrics_id, :tenant, time, values
            FROM past_messages ORDER BY device_id, metrics_id, time DESC
            ON CONFLICT (device_id, metrics_id) DO UPDATE
            SET time = excluded.time, values = excluded.values
            WHERE telemetry_latest.time < excluded.time
            """
        ).bindparams(sa.bindparam("tenant", type_=sa.Uuid)),
        {"tenant": tenant_id},
    )
    assert isinstance(stored, sa.CursorResult)
    return stored.rowcount


async def add_events(session: AsyncSession, tenant_id: UUID, events: Sequence[PastEvent]) -> None:
    """Store events; one of the same device, time and name only once."""
    if events:
        await session.execute(
            insert(DeviceEvent)
            .values(
                [
                    {
                        "tenant_id": tenant_id,
                        "device_id": event.device_id,
                        "time": event.time,
                        "name": event.name,
                        "data": event.data,
                    }
                    for event in events
                ]
            )
            .on_conflict_do_nothing()
        )
