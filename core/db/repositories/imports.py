"""Imports of files: what was uploaded, how far each is, what it refused."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import ImportRefusal, TelemetryImport
from core.imports.rows import Refusal


async def page(
    session: AsyncSession, *, status: str | None, offset: int, limit: int
) -> tuple[list[TelemetryImport], int]:
    """Return imports of the tenant, newest first, and how many match."""
    filters = [] if status is None else [col(TelemetryImport.status) == status]
    total = await session.scalar(
        select(sa.func.count()).select_from(TelemetryImport).where(*filters)
    )
    rows = await session.scalars(
        select(TelemetryImport)
        .where(*filters)
        .order_by(col(TelemetryImport.created_at).desc(), col(TelemetryImport.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0


async def get(
    session: AsyncSession, import_id: UUID, *, lock: bool = False
) -> TelemetryImport | None:
    """Return one import; with `lock`, nobody else changes it meanwhile."""
    statement = select(TelemetryImport).where(col(TelemetryImport.id) == import_id)
    return await session.scalar(statement.with_for_update() if lock else statement)


async def forgotten(session: AsyncSession, before: datetime) -> list[UUID]:
    """Delete imports that were uploaded before an instant and never started; return which."""
    rows = await session.scalars(
        sa.delete(TelemetryImport)
        .where(col(TelemetryImport.status) == "uploaded", col(TelemetryImport.created_at) < before)
        .returning(col(TelemetryImport.id))
    )
    return list(rows)


async def refusals(
    session: AsyncSession, import_id: UUID, *, after: int, limit: int
) -> list[ImportRefusal]:
    """Return refused rows after the row `after`, in their order."""
    rows = await session.scalars(
        select(ImportRefusal)
        .where(col(ImportRefusal.import_id) == import_id, col(ImportRefusal.row) > after)
        .order_by(col(ImportRefusal.row))
        .limit(limit)
    )
    return list(rows)


async def advance(
    session: AsyncSession,
    tenant_id: UUID,
    import_id: UUID,
    *,
    since: int,
    until: int,
    stored: int,
    duplicates: int,
    refused: int,
    fraction: float,
) -> bool:
    """Note that the rows after `since` up to `until` are dealt with, in their transaction.

    Returns:
        False when it is not running any more, or another attempt was quicker: roll back then.
    """
    columns = TelemetryImport
    done = await session.execute(
        sa.update(TelemetryImport)
        .where(
            col(columns.tenant_id) == tenant_id,
            col(columns.id) == import_id,
            col(columns.status) == "running",
            col(columns.rows_read) == since,
        )
        .values(
            rows_read=until,
            stored=col(columns.stored) + stored,
            duplicates=col(columns.duplicates) + duplicates,
            refused=col(columns.refused) + refused,
            fraction=fraction,
        )
        .execution_options(synchronize_session=False)
    )
    assert isinstance(done, sa.CursorResult)
    return done.rowcount == 1


async def add_refusals(
    session: AsyncSession, tenant_id: UUID, import_id: UUID, refused: Sequence[Refusal]
) -> None:
    """Keep refused rows."""
    if refused:
        await session.execute(
            sa.insert(ImportRefusal),
            [
                {
                    "import_id": import_id,
                    "tenant_id": tenant_id,
                    "row": one.row,
                    "column_name": one.column,
                    "code": one.code,
                    "message": one.message[:1000],
                    "cells": one.cells,
                }
                for one in refused
            ],
        )


async def close(
    session: AsyncSession, import_id: UUID, status: str, error: str | None
) -> TelemetryImport | None:
    """End an import that runs; return it as it stands, also when it had ended."""
    row = await get(session, import_id, lock=True)
    if row is not None and row.status == "running":
        row.status = status
        row.error = error[:1000] if error else None
        if status == "completed":
            row.fraction = 1.0
    if row is not None and row.ended_at is None:
        row.ended_at = await session.scalar(sa.select(sa.func.now()))
    return row
