"""`/api/v1/webhooks`."""

from uuid import UUID

from fastapi import APIRouter

from api.deps import PageDep, ServicesDep, WorkDep, WorkFactoryDep
from api.openapi import GUARDED, problems
from api.security.permissions import requires
from api.webhooks import service
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

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"], responses=GUARDED)

_MANAGE = requires("webhooks:manage")
_READ = requires("webhooks:read")


@router.get("", dependencies=[_READ])
async def list_webhooks(work: WorkDep, page: PageDep) -> WebhookList:
    """List endpoints by name."""
    return await service.page(work, page)


@router.post("", status_code=201, dependencies=[_MANAGE], responses=problems(409))
async def create_webhook(
    work: WorkFactoryDep, services: ServicesDep, form: WebhookForm
) -> WebhookWithSecret:
    """Create an endpoint; its signing secret is in this answer only."""
    await service.check_url(services, form.url)  # looks a name up: not within a transaction
    async with work() as unit:
        return await service.create(unit, services, form)


@router.get("/{webhook_id}", dependencies=[_READ], responses=problems(404))
async def get_webhook(work: WorkDep, webhook_id: UUID) -> WebhookView:
    """Return one endpoint."""
    return await service.get(work, webhook_id)


@router.patch("/{webhook_id}", dependencies=[_MANAGE], responses=problems(404, 409))
async def update_webhook(
    work: WorkFactoryDep, services: ServicesDep, webhook_id: UUID, change: WebhookChange
) -> WebhookView:
    """Change an endpoint; enabling it forgets why it was disabled."""
    if change.url is not None:
        await service.check_url(services, change.url)
    async with work() as unit:
        return await service.update(unit, webhook_id, change)


@router.delete("/{webhook_id}", status_code=204, dependencies=[_MANAGE], responses=problems(404))
async def delete_webhook(work: WorkDep, webhook_id: UUID) -> None:
    """Delete an endpoint with its deliveries."""
    await service.delete(work, webhook_id)


@router.post("/{webhook_id}/enable", dependencies=[_MANAGE], responses=problems(404))
async def enable_webhook(work: WorkDep, webhook_id: UUID) -> WebhookView:
    """Enable an endpoint again that was disabled."""
    return await service.update(work, webhook_id, WebhookChange(enabled=True))


@router.post("/{webhook_id}/secret/rotate", dependencies=[_MANAGE], responses=problems(404))
async def rotate_secret(
    work: WorkDep, services: ServicesDep, webhook_id: UUID
) -> WebhookWithSecret:
    """Replace the signing secret."""
    return await service.rotate_secret(work, services, webhook_id)


@router.get("/{webhook_id}/deliveries", dependencies=[_READ], responses=problems(404))
async def list_deliveries(
    work: WorkDep, page: PageDep, webhook_id: UUID, status: DeliveryStatus | None = None
) -> DeliveryList:
    """List an endpoint's deliveries with their attempts, newest first."""
    return await service.deliveries(work, webhook_id, status, page)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay",
    status_code=202,
    dependencies=[_MANAGE],
    responses=problems(404, 409),
)
async def replay_delivery(work: WorkDep, webhook_id: UUID, delivery_id: UUID) -> DeliveryView:
    """Deliver once more what has ended, with the same id and body."""
    return await service.replay(work, webhook_id, delivery_id)
