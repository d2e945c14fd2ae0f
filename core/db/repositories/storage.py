"""Storage policies, and what they have deleted. Deleting runs as the owner of the tables."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.repositories.rollups import DAY, floor
from core.db.tables import Device, StoragePolicy, Tenant

_TABLES: Final = (
    # table, its time, the field of the policy, what one deletion may span
    ("telemetry", "time", "raw_days", DAY),
    ("telemetry_sealed", "first", "raw_days", 30 * DAY),
    ("rollup_1m", "bucket", "minute_days", DAY),
    ("rollup_5m", "bucket", "five_minute_days", 7 * DAY),
    ("rollup_1h", "bucket", "hour_days", 60 * DAY),
    ("rollup_1d", "bucket", "day_days", 3650 * DAY),
)
_PARTITIONED: Final = ("telemetry", "rollup_1m", "rollup_5m")
KEPT: Final = tuple(dict.fromkeys(field for _, _, field, _ in _TABLES))
"""Fields of a policy that say how many days something is kept."""


async def policy(session: AsyncSession, tenant_id: UUID) -> StoragePolicy:
    """Return a tenant's policy; without one, all is kept and days are sealed after a week."""
    found = await session.get(StoragePolicy, tenant_id)
    return found or StoragePolicy(tenant_id=tenant_id)


async def save_policy(session: AsyncSession, wanted: StoragePolicy) -> StoragePolicy:
    """Put a policy in the place of the tenant's present one."""
    stored = await session.merge(wanted)
    await session.flush()
    await session.refresh(stored)
    return stored


async def tenants(session: AsyncSession) -> list[UUID]:
    """Return every tenant; as the owner."""
    return list(await session.scalars(select(Tenant.id).order_by(col(Tenant.id))))


async def devices(
    session: AsyncSession, tenant_id: UUID, after: UUID | None, limit: int
) -> list[UUID]:
    """Return a page of a tenant's devices by id, those out of service included."""
    wanted = select(Device.id).where(Device.tenant_id == tenant_id)
    if after is not None:
        wanted = wanted.where(col(Device.id) > after)
    return list(await session.scalars(wanted.order_by(col(Device.id)).limit(limit)))


def cutoff(now: datetime, days: int | None) -> datetime | None:
    """Return the start of the first day (UTC) that is kept; None when all are."""
    return None if days is None else floor(now - timedelta(days=days), DAY)


async def expire_some(
    session: AsyncSession, device_id: UUID, wanted: StoragePolicy, now: datetime
) -> bool:
    """Delete the oldest stretch of a device that the policy keeps no longer; one transaction.

    Returns:
        Whether there was one, and so may be another.
    """
    found = False
    for table, column, field, span in _TABLES:
        before = cutoff(now, getattr(wanted, field))
        if before is None:
            continue
        oldest = await session.scalar(
            _bound(f"SELECT min({column}) FROM {table} WHERE device_id = :device"),  # noqa: S608
            {"device": device_id},
        )
        if oldest is None or oldest >= before:
            continue
        found = True
        await session.execute(
            _bound(
                f"DELETE FROM {table} WHERE device_id = :device "  # noqa: S608  (constants)
                f"AND {column} >= :start AND {column} < :until"
            ),
            {
                "device": device_id,
                "start": oldest,
                "until": min(before, floor(oldest, DAY) + span),
            },
        )
    return found


async def past_partitions(session: AsyncSession, now: datetime) -> list[str]:
    """Return the partitions of days that no tenant keeps any more."""
    policies = {p.tenant_id: p for p in await session.scalars(select(StoragePolicy))}
    everyone = [policies.get(tenant_id) for tenant_id in await tenants(session)]
    past: list[str] = []
    for table in _PARTITIONED:
        field = next(field for name, _, field, _ in _TABLES if name == table)
        kept = [None if p is None else getattr(p, field) for p in everyone]
        longest = [days for days in kept if days is not None]
        if not longest or len(longest) < len(kept):
            continue
        before = cutoff(now, max(longest))
        assert before is not None
        past += [name for name, day in await partitions(session, table) if day < before.date()]
    return past


async def partitions(session: AsyncSession, table: str) -> list[tuple[str, date]]:
    """Return the partitions of a table, one a day, oldest first."""
    names: Sequence[str] = (
        await session.scalars(
            sa.text(
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
                "WHERE i.inhparent = to_regclass(:table) AND c.relname ~ '_p[0-9]{8}$' "
                "ORDER BY c.relname"
            ),
            {"table": table},
        )
    ).all()
    return [(name, datetime.strptime(name[-8:], "%Y%m%d").date()) for name in names]  # noqa: DTZ007


async def drop_partition(session: AsyncSession, name: str) -> bool:
    """Drop a partition; one transaction. Gives up when others use its table for long."""
    await session.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
    await session.execute(sa.text(f"DROP TABLE IF EXISTS {name}"))
    return True


def _bound(statement: str) -> sa.TextClause:
    return sa.text(statement).bindparams(sa.bindparam("device", type_=sa.Uuid))
