"""Answers of models, as people read them."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import Prediction


async def page(
    session: AsyncSession,
    *,
    device_id: UUID | None,
    prediction_type: str | None,
    offset: int,
    limit: int,
) -> tuple[list[Prediction], int]:
    """Return predictions, newest first, and how many match."""
    filters = [
        column == value
        for column, value in (
            (col(Prediction.device_id), device_id),
            (col(Prediction.prediction_type), prediction_type),
        )
        if value is not None
    ]
    total = await session.scalar(select(sa.func.count()).select_from(Prediction).where(*filters))
    rows = await session.scalars(
        select(Prediction)
        .where(*filters)
        .order_by(col(Prediction.time).desc(), col(Prediction.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0
