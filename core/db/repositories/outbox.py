"""The trigger outbox: what Temporal must be told, committed with its cause."""

from uuid import UUID

import msgspec
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.tables import TriggerOutbox
from core.temporal import names
from core.temporal.outbox import OutboxPayload, SendSignal, StartRun


def outbox_key(tenant_id: UUID, payload: OutboxPayload) -> str:
    """Return the key that makes a repeated cause a no-op."""
    match payload:
        case StartRun():
            return names.run_id(tenant_id, UUID(payload.workflow_id), payload.event_key)
        case SendSignal():
            return f"{payload.workflow_id}#{payload.signal}"
        case _:
            return payload.workflow_id


async def enqueue(session: AsyncSession, tenant_id: UUID, payload: OutboxPayload) -> bool:
    """Add one row in the running transaction; after the commit, publish `bus.OUTBOX`.

    Returns:
        False when the same cause is in the outbox already.
    """
    document = msgspec.to_builtins(payload)
    statement = (
        insert(TriggerOutbox)
        .values(
            tenant_id=tenant_id,
            kind=document["kind"],
            key=outbox_key(tenant_id, payload),
            payload=document,
        )
        .on_conflict_do_nothing(index_elements=["key"])
        .returning(TriggerOutbox.id)  # type: ignore[call-overload]  # a column, typed as its value
    )
    return (await session.execute(statement)).first() is not None
