"""What devices sign in with, as people manage it."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import DeviceCredential

Kind = Literal["key", "x509"]


async def page(
    session: AsyncSession, device_id: UUID, *, offset: int, limit: int
) -> tuple[list[DeviceCredential], int]:
    """Return a device's credentials, the void ones included, newest first, and how many."""
    own = col(DeviceCredential.device_id) == device_id
    total = await session.scalar(select(sa.func.count()).select_from(DeviceCredential).where(own))
    rows = await session.scalars(
        select(DeviceCredential)
        .where(own)
        .order_by(col(DeviceCredential.created_at).desc(), col(DeviceCredential.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0


async def count_valid(session: AsyncSession, device_id: UUID) -> int:
    """Return how many credentials a device could sign in with now."""
    found = await session.scalar(
        select(sa.func.count())
        .select_from(DeviceCredential)
        .where(col(DeviceCredential.device_id) == device_id, *_valid())
    )
    return found or 0


async def revoke(session: AsyncSession, device_id: UUID, *, kind: Kind | None = None) -> int:
    """Revoke a device's credentials, all or of one kind; returns how many were not before."""
    statement = (
        sa.update(DeviceCredential)
        .where(
            col(DeviceCredential.device_id) == device_id,
            col(DeviceCredential.revoked_at).is_(None),
        )
        .values(revoked_at=sa.func.now())
        .returning(col(DeviceCredential.id))
    )
    if kind is not None:
        statement = statement.where(col(DeviceCredential.kind) == kind)
    return len((await session.execute(statement)).all())


async def revoke_one(
    session: AsyncSession, device_id: UUID, credential_id: UUID
) -> DeviceCredential | None:
    """Revoke one credential of a device and return it; what was revoked before stays so."""
    return await session.scalar(
        sa.update(DeviceCredential)
        .where(
            col(DeviceCredential.device_id) == device_id,
            col(DeviceCredential.id) == credential_id,
        )
        .values(revoked_at=sa.func.coalesce(col(DeviceCredential.revoked_at), sa.func.now()))
        .returning(DeviceCredential)
        .execution_options(populate_existing=True)
    )


async def end_keys(session: AsyncSession, device_id: UUID, at: datetime) -> int:
    """Let every valid key of a device end at `at`, unless it ends before; returns how many."""
    ended = await session.execute(
        sa.update(DeviceCredential)
        .where(
            col(DeviceCredential.device_id) == device_id,
            col(DeviceCredential.kind) == "key",
            *_valid(),
        )
        # `least` passes nulls over: a key without an end gets this one.
        .values(expires_at=sa.func.least(col(DeviceCredential.expires_at), at))
        .returning(col(DeviceCredential.id))
    )
    return len(ended.all())


def _valid() -> tuple[sa.ColumnElement[bool], ...]:
    expires = col(DeviceCredential.expires_at)
    return (
        col(DeviceCredential.revoked_at).is_(None),
        sa.or_(expires.is_(None), expires > sa.func.now()),
    )
