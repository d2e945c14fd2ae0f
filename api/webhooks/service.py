"""Outgoing webhooks."""

from uuid import UUID, uuid4

from api.deps import Page
from api.schemas import Pagination
from api.services import Services
from api.webhooks.schemas import (
    DeliveryList,
    DeliveryStatus,
    DeliveryView,
    WebhookChange,
    WebhookForm,
    WebhookList,
    WebhookView,
    WebhookWithSecret,
)
from api.work import Work
from core import bus
from core.db.repositories import webhooks
from core.db.tables import Webhook
from core.errors import FieldError, InvalidInputError, NotFoundError
from core.outbound import BlockedAddressError, OutboundError
from core.webhooks import new_secret, seal_secret


async def check_url(services: Services, url: str) -> None:
    """Check that an endpoint may be called.

    Raises:
        InvalidInputError: It is malformed, leads to a private address, or does not resolve.
    """
    try:
        await services.outbound.check(url)
    except (BlockedAddressError, OutboundError) as error:
        raise InvalidInputError(
            "The endpoint cannot be used.", errors=(FieldError("/url", error.detail),)
        ) from error


async def page(work: Work, place: Page) -> WebhookList:
    """Return a page of endpoints."""
    rows, total = await webhooks.page(
        work.session, work.tenant_id, offset=place.offset, limit=place.limit
    )
    return WebhookList(
        webhooks=[WebhookView.model_validate(row) for row in rows],
        pagination=Pagination.of(place, total),
    )


async def create(work: Work, services: Services, form: WebhookForm) -> WebhookWithSecret:
    """Create an endpoint whose URL was checked.

    Raises:
        ConflictError: The name is taken.
    """
    secret = new_secret()
    webhook_id = uuid4()
    webhook = await webhooks.create(
        work.session,
        Webhook(
            id=webhook_id,
            tenant_id=work.tenant_id,
            secret=seal_secret(services.vault, webhook_id, secret),
            **form.model_dump(),
        ),
    )
    work.audit("webhook.created", "webhook", webhook_id, name=webhook.name, url=webhook.url)
    return WebhookWithSecret(webhook=WebhookView.model_validate(webhook), secret=secret)


async def get(work: Work, webhook_id: UUID) -> WebhookView:
    """Return one endpoint.

    Raises:
        NotFoundError: There is none.
    """
    return WebhookView.model_validate(await webhooks.get(work.session, work.tenant_id, webhook_id))


async def update(work: Work, webhook_id: UUID, change: WebhookChange) -> WebhookView:
    """Change an endpoint whose new URL, if any, was checked.

    Raises:
        NotFoundError: There is none.
        ConflictError: The name is taken.
    """
    changes = change.model_dump(exclude_none=True)
    webhook = await webhooks.update(work.session, work.tenant_id, webhook_id, changes)
    work.audit("webhook.updated", "webhook", webhook_id, fields=sorted(changes))
    return WebhookView.model_validate(webhook)


async def rotate_secret(work: Work, services: Services, webhook_id: UUID) -> WebhookWithSecret:
    """Replace the signing secret; what is sent from now on is signed with the new one.

    Raises:
        NotFoundError: There is none.
    """
    secret = new_secret()
    sealed = seal_secret(services.vault, webhook_id, secret)
    webhook = await webhooks.update(work.session, work.tenant_id, webhook_id, {"secret": sealed})
    work.audit("webhook.secret_rotated", "webhook", webhook_id)
    return WebhookWithSecret(webhook=WebhookView.model_validate(webhook), secret=secret)


async def delete(work: Work, webhook_id: UUID) -> None:
    """Delete an endpoint with its deliveries.

    Raises:
        NotFoundError: There is none.
    """
    await webhooks.delete(work.session, work.tenant_id, webhook_id)
    work.audit("webhook.deleted", "webhook", webhook_id)


async def deliveries(
    work: Work, webhook_id: UUID, status: DeliveryStatus | None, place: Page
) -> DeliveryList:
    """Return a page of an endpoint's deliveries with their attempts.

    Raises:
        NotFoundError: There is no such endpoint.
    """
    await webhooks.get(work.session, work.tenant_id, webhook_id)
    records, total = await webhooks.deliveries(
        work.session,
        work.tenant_id,
        webhook_id=webhook_id,
        status=status,
        offset=place.offset,
        limit=place.limit,
    )
    return DeliveryList(
        deliveries=[DeliveryView.of(record) for record in records],
        pagination=Pagination.of(place, total),
    )


async def replay(work: Work, webhook_id: UUID, delivery_id: UUID) -> DeliveryView:
    """Deliver again what has ended, with the same id and body.

    Raises:
        NotFoundError: There is no such delivery of this endpoint.
        ConflictError: It is under way, or the endpoint is disabled.
    """
    record = await webhooks.delivery(work.session, work.tenant_id, delivery_id)
    if record.delivery.webhook_id != webhook_id:
        raise NotFoundError("There is no such delivery of this endpoint.")
    await webhooks.requeue(work.session, work.tenant_id, delivery_id)
    work.notify(bus.OUTBOX, "")
    work.audit("webhook.replayed", "webhook", webhook_id, delivery=str(delivery_id))
    return DeliveryView.of(await webhooks.delivery(work.session, work.tenant_id, delivery_id))
