"""Makes webhook endpoints and deliveries, straight in the database."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from core import webhooks
from core.crypto import Vault
from core.db.repositories import webhooks as repository
from core.db.session import Database
from core.db.tables import Webhook
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class MadeDelivery:
    """A delivery, its endpoint, and what the receiver must see."""

    id: UUID
    webhook_id: UUID
    body: bytes


async def make_webhook(
    database: Database,
    settings: Settings,
    tenant_id: UUID,
    url: str,
    secret: str,
    failing_since: datetime | None = None,
) -> UUID:
    """Return a new endpoint."""
    webhook_id = uuid4()
    vault = Vault(settings.secrets.vault_key)
    async with database.transaction(tenant_id) as session:
        await repository.create(
            session,
            Webhook(
                id=webhook_id,
                tenant_id=tenant_id,
                name=f"webhook-{webhook_id.hex[:8]}",
                url=url,
                secret=webhooks.seal_secret(vault, webhook_id, secret),
                failing_since=failing_since,
            ),
        )
    return webhook_id


async def make_delivery(database: Database, tenant_id: UUID, webhook_id: UUID) -> MadeDelivery:
    """Return a new delivery; nothing sends it yet."""
    body = webhooks.build_body("test.happened", {"n": uuid4().hex}, datetime.now(UTC))
    async with database.transaction(tenant_id) as session:
        delivery_id = await repository.create_delivery(
            session,
            tenant_id,
            webhook_id,
            event_type="test.happened",
            body=body,
            source_key=f"test/{uuid4()}",
        )
    return MadeDelivery(delivery_id, webhook_id, body)
