"""Webhook endpoints and their deliveries, as people manage them. Attempts: `webhook_attempts`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.repositories import outbox
from core.db.tables import Webhook, WebhookAttempt, WebhookDelivery
from core.errors import ConflictError, NotFoundError
from core.temporal import names
from core.temporal.contracts import WebhookDeliveryInput
from core.temporal.outbox import StartWorkflow

_Row = TypeVar("_Row")

CHANGEABLE = frozenset({"name", "url", "secret", "event_types", "enabled"})


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery and its attempts, oldest first."""

    delivery: WebhookDelivery
    attempts: Sequence[WebhookAttempt]


async def create(session: AsyncSession, webhook: Webhook) -> Webhook:
    """Add an endpoint; its secret is sealed for its id (`core.webhooks.seal_secret`).

    Raises:
        ConflictError: The name is taken.
    """
    await _write_name(session, webhook)
    await session.refresh(webhook)
    return webhook


async def page(
    session: AsyncSession, tenant_id: UUID, *, offset: int, limit: int
) -> tuple[list[Webhook], int]:
    """Return endpoints by name, and how many there are."""
    mine = col(Webhook.tenant_id) == tenant_id
    total = await session.scalar(select(sa.func.count()).select_from(Webhook).where(mine))
    rows = await session.scalars(
        select(Webhook).where(mine).order_by(col(Webhook.name)).offset(offset).limit(limit)
    )
    return list(rows), total or 0


async def get(session: AsyncSession, tenant_id: UUID, webhook_id: UUID) -> Webhook:
    """Return one endpoint.

    Raises:
        NotFoundError: The tenant has no such endpoint.
    """
    return _found(
        await session.scalar(
            select(Webhook).where(
                col(Webhook.tenant_id) == tenant_id, col(Webhook.id) == webhook_id
            )
        ),
        "webhook",
        webhook_id,
    )


async def update(
    session: AsyncSession, tenant_id: UUID, webhook_id: UUID, changes: dict[str, object]
) -> Webhook:
    """Change some columns of an endpoint; enabling it forgets why it was disabled.

    Args:
        session: The unit of work.
        tenant_id: The tenant.
        webhook_id: The endpoint.
        changes: New values by name, of `CHANGEABLE` only.

    Raises:
        ConflictError: The new name is taken.
        NotFoundError: The tenant has no such endpoint.
    """
    if unknown := changes.keys() - CHANGEABLE:
        raise ValueError(f"not changeable: {sorted(unknown)}")
    webhook = await get(session, tenant_id, webhook_id)
    if changes.get("enabled") and not webhook.enabled:
        webhook.disabled_reason = None
        webhook.failing_since = None
    for name, value in changes.items():
        setattr(webhook, name, value)
    await _write_name(session, webhook)
    return webhook


async def delete(session: AsyncSession, tenant_id: UUID, webhook_id: UUID) -> None:
    """Remove an endpoint with its deliveries; those under way find nothing left to deliver.

    Raises:
        NotFoundError: The tenant has no such endpoint.
    """
    await session.delete(await get(session, tenant_id, webhook_id))
    await session.flush()


async def create_delivery(
    session: AsyncSession,
    tenant_id: UUID,
    webhook_id: UUID,
    *,
    event_type: str,
    body: bytes,
    source_key: str,
) -> UUID:
    """Store what is to be delivered; the same cause is stored once, with the body it first had.

    Nothing is sent by this: the delivery workflow does that.

    Args:
        session: The unit of work.
        tenant_id: The tenant.
        webhook_id: The endpoint.
        event_type: Type of the event.
        body: What is sent, byte for byte (`core.webhooks.build_body`).
        source_key: Names the cause, e.g. the idempotency key of a step.

    Returns:
        The delivery's id, which follows from the endpoint and the cause.

    Raises:
        ConflictError: The endpoint does not want events of this type.
        NotFoundError: The tenant has no such endpoint.
    """
    webhook = await get(session, tenant_id, webhook_id)
    if webhook.event_types and event_type not in webhook.event_types:
        raise ConflictError(
            f"the webhook {webhook.name!r} does not want {event_type!r}, "
            f"only {', '.join(sorted(webhook.event_types))}"
        )
    delivery_id = names.stable_uuid(f"webhook:{webhook_id}:{source_key}")
    await session.execute(
        insert(WebhookDelivery)
        .values(
            id=delivery_id,
            tenant_id=tenant_id,
            webhook_id=webhook_id,
            event_type=event_type,
            body=body,
            source_key=source_key,
            next_attempt_at=sa.func.now(),
        )
        .on_conflict_do_nothing(index_elements=["webhook_id", "source_key"])
    )
    return delivery_id


async def deliveries(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    webhook_id: UUID | None = None,
    status: str | None = None,
    offset: int,
    limit: int,
) -> tuple[list[DeliveryRecord], int]:
    """Return deliveries with their attempts, newest first, and how many match."""
    filters = [col(WebhookDelivery.tenant_id) == tenant_id]
    if webhook_id is not None:
        filters.append(col(WebhookDelivery.webhook_id) == webhook_id)
    if status is not None:
        filters.append(col(WebhookDelivery.status) == status)
    total = await session.scalar(
        select(sa.func.count()).select_from(WebhookDelivery).where(*filters)
    )
    rows = await session.scalars(
        select(WebhookDelivery)
        .where(*filters)
        .order_by(col(WebhookDelivery.created_at).desc(), col(WebhookDelivery.id))
        .offset(offset)
        .limit(limit)
    )
    return await _with_attempts(session, tenant_id, list(rows)), total or 0


async def delivery(session: AsyncSession, tenant_id: UUID, delivery_id: UUID) -> DeliveryRecord:
    """Return one delivery with its attempts.

    Raises:
        NotFoundError: The tenant has no such delivery.
    """
    found = await _delivery(session, tenant_id, delivery_id)
    return (await _with_attempts(session, tenant_id, [found]))[0]


async def requeue(session: AsyncSession, tenant_id: UUID, delivery_id: UUID) -> str:
    """Deliver again what has ended: same id, same body, a new run of the workflow.

    After the commit, publish `bus.OUTBOX`.

    Returns:
        The Temporal id of the new run.

    Raises:
        ConflictError: It is still under way, or its endpoint is disabled.
        NotFoundError: The tenant has no such delivery.
    """
    # Locked, so that of two requests at once the second finds it pending.
    found = await _delivery(session, tenant_id, delivery_id, lock=True)
    if found.status == "pending":
        raise ConflictError("this delivery is still under way")
    if not (await get(session, tenant_id, found.webhook_id)).enabled:
        raise ConflictError("the endpoint is disabled; enable it first")
    found.status = "pending"
    found.completed_at = None
    found.next_attempt_at = datetime.now(UTC)
    workflow_id = f"{names.webhook_delivery_id(tenant_id, delivery_id)}:replay:{uuid4()}"
    again = WebhookDeliveryInput(
        tenant_id=tenant_id, delivery_id=delivery_id, first_attempt=found.attempts + 1
    )
    await outbox.enqueue(session, tenant_id, _start(workflow_id, again))
    return workflow_id


def _start(workflow_id: str, start_input: WebhookDeliveryInput) -> StartWorkflow:
    return StartWorkflow(
        workflow_type=names.WorkflowType.WEBHOOK_DELIVERY,
        workflow_id=workflow_id,
        input=start_input.model_dump(mode="json"),
    )


async def _delivery(
    session: AsyncSession, tenant_id: UUID, delivery_id: UUID, *, lock: bool = False
) -> WebhookDelivery:
    query = select(WebhookDelivery).where(
        col(WebhookDelivery.tenant_id) == tenant_id, col(WebhookDelivery.id) == delivery_id
    )
    row = await session.scalar(query.with_for_update() if lock else query)
    return _found(row, "webhook delivery", delivery_id)


async def _with_attempts(
    session: AsyncSession, tenant_id: UUID, rows: list[WebhookDelivery]
) -> list[DeliveryRecord]:
    attempts: dict[UUID, list[WebhookAttempt]] = {row.id: [] for row in rows}
    if rows:
        found = await session.scalars(
            select(WebhookAttempt)
            .where(
                col(WebhookAttempt.tenant_id) == tenant_id,
                col(WebhookAttempt.delivery_id).in_(attempts),
            )
            .order_by(col(WebhookAttempt.attempt))
        )
        for attempt in found:
            attempts[attempt.delivery_id].append(attempt)
    return [DeliveryRecord(row, attempts[row.id]) for row in rows]


async def _write_name(session: AsyncSession, webhook: Webhook) -> None:
    name = webhook.name
    try:
        async with session.begin_nested():
            session.add(webhook)
    except IntegrityError as error:
        raise ConflictError(f"there is a webhook named {name!r} already") from error


def _found(row: _Row | None, kind: str, key: UUID) -> _Row:
    if row is None:
        raise NotFoundError(f"there is no {kind} {key}")
    return row
