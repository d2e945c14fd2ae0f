"""Messages that could not be stored: found, marked as replayed, deleted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import DeadLetter


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are wanted; None means any.

    Attributes:
        start, end: Of the receipt; the end does not belong.
        replayed: Whether they have been replayed.
    """

    device_id: UUID | None = None
    code: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    replayed: bool | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions of a statement."""
        found: list[sa.ColumnElement[bool]] = []
        if self.device_id is not None:
            found.append(col(DeadLetter.device_id) == self.device_id)
        if self.code is not None:
            found.append(col(DeadLetter.code) == self.code)
        if self.start is not None:
            found.append(col(DeadLetter.received_at) >= self.start)
        if self.end is not None:
            found.append(col(DeadLetter.received_at) < self.end)
        if self.replayed is not None:
            at = col(DeadLetter.replayed_at)
            found.append(at.is_not(None) if self.replayed else at.is_(None))
        return found


async def page(
    session: AsyncSession, wanted: DeadLetterFilter, *, offset: int, limit: int
) -> tuple[list[DeadLetter], int]:
    """Return dead letters of the tenant, newest first, and how many match."""
    conditions = wanted.conditions()
    total = await session.scalar(select(sa.func.count()).select_from(DeadLetter).where(*conditions))
    rows = await session.scalars(
        select(DeadLetter)
        .where(*conditions)
        .order_by(col(DeadLetter.received_at).desc(), col(DeadLetter.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows), total or 0


async def get(session: AsyncSession, letter_id: UUID) -> DeadLetter | None:
    """Return one dead letter."""
    return await session.scalar(select(DeadLetter).where(col(DeadLetter.id) == letter_id))


async def oldest(
    session: AsyncSession,
    wanted: DeadLetterFilter,
    ids: Sequence[UUID] | None,
    *,
    offset: int,
    limit: int,
) -> list[UUID]:
    """Return which letters match, oldest first; of `ids` only, if given."""
    conditions = wanted.conditions()
    if ids is not None:
        conditions.append(col(DeadLetter.id).in_(ids))
    rows = await session.scalars(
        select(col(DeadLetter.id))
        .where(*conditions)
        .order_by(col(DeadLetter.received_at), col(DeadLetter.id))
        .offset(offset)
        .limit(limit)
    )
    return list(rows)


async def load(session: AsyncSession, ids: Sequence[UUID]) -> list[DeadLetter]:
    """Return letters, oldest first."""
    rows = await session.scalars(
        select(DeadLetter)
        .where(col(DeadLetter.id).in_(ids))
        .order_by(col(DeadLetter.received_at), col(DeadLetter.id))
    )
    return list(rows)


async def mark_replayed(session: AsyncSession, letters: Sequence[UUID], user_id: UUID) -> None:
    """Note that letters are stored now."""
    await session.execute(
        sa.update(DeadLetter)
        .where(col(DeadLetter.id).in_(letters))
        .values(replayed_at=sa.func.now(), replayed_by=user_id)
    )


async def explain(
    session: AsyncSession, letter_id: UUID, *, code: str, pointer: str, message: str
) -> None:
    """Replace the reason of a letter that was refused again."""
    await session.execute(
        sa.update(DeadLetter)
        .where(col(DeadLetter.id) == letter_id)
        .values(code=code[:50], pointer=pointer[:500], message=message[:1000])
    )


async def delete(session: AsyncSession, letter_id: UUID) -> DeadLetter | None:
    """Delete a letter; return what it was."""
    letter = await get(session, letter_id)
    if letter is not None:
        await session.delete(letter)
    return letter
