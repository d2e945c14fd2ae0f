"""What the delivery workflow writes: attempts, the end of deliveries, the health of endpoints."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from core.db.repositories import audit
from core.db.tables import Webhook, WebhookAttempt, WebhookDelivery


@dataclass(frozen=True, slots=True)
class Job:
    """All that one attempt needs; `secret` is still sealed."""

    webhook_id: UUID
    url: str
    secret: bytes
    enabled: bool
    status: str
    next_attempt_at: datetime | None
    body: bytes


async def load(session: AsyncSession, tenant_id: UUID, delivery_id: UUID) -> Job | None:
    """Return what there is to deliver; None when it was deleted, alone or with its endpoint."""
    row = (
        await session.execute(
            sa.select(
                col(Webhook.id),
                col(Webhook.url),
                col(Webhook.secret),
                col(Webhook.enabled),
                col(WebhookDelivery.status),
                col(WebhookDelivery.next_attempt_at),
                col(WebhookDelivery.body),
            )
            .join(WebhookDelivery, col(WebhookDelivery.webhook_id) == col(Webhook.id))
            .where(
                col(WebhookDelivery.tenant_id) == tenant_id,
                col(WebhookDelivery.id) == delivery_id,
            )
        )
    ).one_or_none()
    return None if row is None else Job(*row)


async def recorded(
    session: AsyncSession, tenant_id: UUID, delivery_id: UUID, attempt: int
) -> WebhookAttempt | None:
    """Return an attempt if it was made and written down before."""
    return await session.scalar(
        sa.select(WebhookAttempt).where(
            col(WebhookAttempt.tenant_id) == tenant_id,
            col(WebhookAttempt.delivery_id) == delivery_id,
            col(WebhookAttempt.attempt) == attempt,
        )
    )


async def record(
    session: AsyncSession, attempt: WebhookAttempt, *, status: str, next_attempt_at: datetime | None
) -> bool:
    """Write down an attempt and where it leaves the delivery.

    Returns:
        False, and nothing is written, when the delivery was deleted meanwhile.
    """
    changed = await session.execute(
        sa.update(WebhookDelivery)
        .where(
            col(WebhookDelivery.tenant_id) == attempt.tenant_id,
            col(WebhookDelivery.id) == attempt.delivery_id,
        )
        .values(
            status=status,
            attempts=attempt.attempt,
            next_attempt_at=next_attempt_at,
            completed_at=None if status == "pending" else sa.func.now(),
        )
        .returning(col(WebhookDelivery.id))
    )
    if changed.first() is None:
        return False
    session.add(attempt)
    return True


async def close(session: AsyncSession, tenant_id: UUID, delivery_id: UUID, status: str) -> bool:
    """End a delivery that is under way.

    Returns:
        False when it had ended already, or is gone.
    """
    changed = await session.execute(
        sa.update(WebhookDelivery)
        .where(
            col(WebhookDelivery.tenant_id) == tenant_id,
            col(WebhookDelivery.id) == delivery_id,
            col(WebhookDelivery.status) == "pending",
        )
        .values(status=status, next_attempt_at=None, completed_at=sa.func.now())
        .returning(col(WebhookDelivery.id))
    )
    return changed.first() is not None


async def mark_healthy(session: AsyncSession, tenant_id: UUID, webhook_id: UUID) -> None:
    """End the endpoint's row of failures."""
    await session.execute(
        sa.update(Webhook)
        .where(
            col(Webhook.tenant_id) == tenant_id,
            col(Webhook.id) == webhook_id,
            col(Webhook.failing_since).is_not(None),
        )
        .values(failing_since=None)
    )


async def mark_failing(
    session: AsyncSession, tenant_id: UUID, webhook_id: UUID, now: datetime
) -> timedelta:
    """Note a failure of the endpoint.

    Returns:
        How long it has been doing nothing but fail.
    """
    since = await session.scalar(
        sa.update(Webhook)
        .where(col(Webhook.tenant_id) == tenant_id, col(Webhook.id) == webhook_id)
        .values(failing_since=sa.func.coalesce(col(Webhook.failing_since), now))
        .returning(col(Webhook.failing_since))
    )
    return now - since if since is not None else timedelta()


async def disable(session: AsyncSession, tenant_id: UUID, webhook_id: UUID, reason: str) -> bool:
    """Disable an endpoint and write it into the audit log.

    Returns:
        False when it was disabled already, or is gone.
    """
    name = await session.scalar(
        sa.update(Webhook)
        .where(
            col(Webhook.tenant_id) == tenant_id, col(Webhook.id) == webhook_id, col(Webhook.enabled)
        )
        .values(enabled=False, disabled_reason=reason)
        .returning(col(Webhook.name))
    )
    if name is None:
        return False
    audit.record(
        session,
        tenant_id=tenant_id,
        user_id=None,  # the platform itself
        action="webhook.disabled",
        resource_type="webhook",
        resource_id=str(webhook_id),
        details={"name": name, "reason": reason},
        address="",
    )
    return True
