"""The audit log: written with every change, never altered."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.columns import Document
from core.db.tables import AuditEntry


def record(
    session: AsyncSession,
    *,
    tenant_id: UUID,
    user_id: UUID | None,
    action: str,
    resource_type: str,
    resource_id: str | None,
    details: Document,
    address: str,
) -> None:
    """Add one entry to the running transaction."""
    session.add(
        AuditEntry(
            tenant_id=tenant_id,
            user_id=user_id,
            action=action,
            resource_type=resource_type,
            resource_id=resource_id,
            details=details,
            address=address,
        )
    )


async def find(
    session: AsyncSession, *, action: str, resource_type: str, resource_id: str
) -> AuditEntry | None:
    """Return the newest entry of one action on one thing."""
    return await session.scalar(
        select(AuditEntry)
        .where(
            col(AuditEntry.action) == action,
            col(AuditEntry.resource_type) == resource_type,
            col(AuditEntry.resource_id) == resource_id,
        )
        .order_by(col(AuditEntry.time).desc())
        .limit(1)
    )


async def page(
    session: AsyncSession,
    *,
    action: str | None,
    resource_type: str | None,
    resource_id: str | None,
    user_id: UUID | None,
    offset: int,
    limit: int,
) -> tuple[list[AuditEntry], int]:
    """Return entries, newest first, and how many match."""
    filters = [
        column == wanted
        for column, wanted in (
            (col(AuditEntry.action), action),
            (col(AuditEntry.resource_type), resource_type),
            (col(AuditEntry.resource_id), resource_id),
            (col(AuditEntry.user_id), user_id),
        )
        if wanted is not None
    ]
    total = await session.scalar(select(sa.func.count()).select_from(AuditEntry).where(*filters))
    rows = await session.scalars(
        select(AuditEntry)
        .where(*filters)
        .order_by(col(AuditEntry.time).desc(), col(AuditEntry.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0
