"""The trigger outbox as the relay works it off, for all tenants at once."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

MAX_BACKOFF = timedelta(minutes=1)

_DUE = sa.text(
    """
    SELECT id, tenant_id, key, payload, attempts FROM trigger_outbox
    WHERE done_at IS NULL AND available_at <= now()
    ORDER BY available_at, id
    LIMIT :most
    FOR UPDATE SKIP LOCKED
    """
)
_DONE = sa.text(
    "UPDATE trigger_outbox SET done_at = now(), attempts = attempts + 1, last_error = NULL"
    " WHERE id = ANY(:ids)"
)
_REFUSED = sa.text(
    "UPDATE trigger_outbox SET done_at = now(), attempts = attempts + 1, last_error = :error"
    " WHERE id = :id"
)
# 0.5 s, 1 s, 2 s … a minute. The exponent is bounded so that the power is.
_LATER = sa.text(
    """
    UPDATE trigger_outbox SET
        attempts = attempts + 1,
        last_error = :error,
        available_at = now() + least(
            interval '0.5 second' * power(2, least(attempts, 20)), CAST(:longest AS interval))
    WHERE id = :id
    """
).bindparams(sa.bindparam("longest", type_=sa.Interval))
_OPEN = sa.text("SELECT 1 FROM trigger_outbox WHERE key = :key AND done_at IS NULL")
_SWEEP = sa.text(
    """
    DELETE FROM trigger_outbox WHERE id IN (
        SELECT id FROM trigger_outbox WHERE done_at < now() - CAST(:age AS interval) LIMIT :most
        FOR UPDATE SKIP LOCKED
    )
    """
).bindparams(sa.bindparam("age", type_=sa.Interval))


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Something that Temporal must be told; locked until the end of the transaction."""

    id: int
    tenant_id: UUID
    key: str
    payload: dict[str, Any]
    attempts: int


async def due(session: AsyncSession, most: int) -> list[OutboxRow]:
    """Return rows whose time has come and lock them; other relays pass them by."""
    rows = await session.execute(_DUE, {"most": most})
    return [OutboxRow(*row) for row in rows]


async def mark_done(session: AsyncSession, ids: list[int]) -> None:
    """Mark rows as told."""
    if ids:
        await session.execute(_DONE, {"ids": ids})


async def mark_refused(session: AsyncSession, row_id: int, error: str) -> None:
    """Mark a row that can never be told, with the reason."""
    await session.execute(_REFUSED, {"id": row_id, "error": error[:2000]})


async def mark_later(
    session: AsyncSession, row_id: int, error: str, longest: timedelta = MAX_BACKOFF
) -> None:
    """Put off a row; each time twice as long, `longest` at most."""
    await session.execute(_LATER, {"id": row_id, "error": error[:2000], "longest": longest})


async def is_open(session: AsyncSession, key: str) -> bool:
    """Tell whether there is a row of this key that was not told yet."""
    return (await session.execute(_OPEN, {"key": key})).first() is not None


async def sweep(session: AsyncSession, age: timedelta, most: int = 10_000) -> None:
    """Delete rows that were told so long ago."""
    await session.execute(_SWEEP, {"age": age, "most": most})
