"""Webhook endpoints and deliveries as people manage them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from core import webhooks
from core.db.repositories import webhooks as repository
from core.db.session import Database
from core.errors import ConflictError, NotFoundError
from core.settings import Settings
from tests.support.webhooks import make_webhook


async def test_the_same_cause_is_delivered_once(
    settings: Settings, api_database: Database, tenant_id: UUID
) -> None:
    webhook_id = await make_webhook(
        api_database, settings, tenant_id, "https://example.com/", webhooks.new_secret()
    )
    ids = set()
    for body in (b'{"n":1}', b'{"n":2}'):
        async with api_database.transaction(tenant_id) as session:
            ids.add(
                await repository.create_delivery(
                    session,
                    tenant_id,
                    webhook_id,
                    event_type="x",
                    body=body,
                    source_key="run/step/0",
                )
            )
    async with api_database.transaction(tenant_id) as session:
        rows, total = await repository.deliveries(
            session, tenant_id, webhook_id=webhook_id, status="pending", offset=0, limit=10
        )
    assert (total, {row.delivery.id for row in rows}) == (1, ids)
    assert rows[0].delivery.body == b'{"n":1}'


async def test_an_unknown_endpoint_has_no_deliveries(
    api_database: Database, tenant_id: UUID
) -> None:
    async with api_database.transaction(tenant_id) as session:
        with pytest.raises(NotFoundError):
            await repository.create_delivery(
                session, tenant_id, uuid4(), event_type="x", body=b"{}", source_key="k"
            )
        with pytest.raises(NotFoundError):
            await repository.requeue(session, tenant_id, uuid4())


async def test_an_endpoint_gets_only_the_events_it_wants(
    settings: Settings, api_database: Database, tenant_id: UUID
) -> None:
    webhook_id = await make_webhook(
        api_database, settings, tenant_id, "https://example.com/", webhooks.new_secret()
    )
    async with api_database.transaction(tenant_id) as session:
        await repository.update(session, tenant_id, webhook_id, {"event_types": ["a", "b"]})
        await repository.create_delivery(
            session, tenant_id, webhook_id, event_type="b", body=b"{}", source_key="1"
        )
        with pytest.raises(ConflictError, match="does not want 'c', only a, b"):
            await repository.create_delivery(
                session, tenant_id, webhook_id, event_type="c", body=b"{}", source_key="2"
            )


async def test_enabling_an_endpoint_forgets_its_failures(
    settings: Settings, api_database: Database, tenant_id: UUID
) -> None:
    webhook_id = await make_webhook(
        api_database,
        settings,
        tenant_id,
        "https://example.com/",
        webhooks.new_secret(),
        failing_since=datetime.now(UTC) - timedelta(days=9),
    )
    async with api_database.transaction(tenant_id) as session:
        await repository.update(session, tenant_id, webhook_id, {"enabled": False})
        enabled = await repository.update(session, tenant_id, webhook_id, {"enabled": True})
    assert enabled.failing_since is None


async def test_two_endpoints_cannot_have_one_name(
    settings: Settings, api_database: Database, tenant_id: UUID
) -> None:
    first, second = [
        await make_webhook(
            api_database, settings, tenant_id, "https://example.com/", webhooks.new_secret()
        )
        for _ in range(2)
    ]
    async with api_database.transaction(tenant_id) as session:
        name = (await repository.get(session, tenant_id, first)).name
    async with api_database.transaction(tenant_id) as session:
        with pytest.raises(ConflictError):
            await repository.update(session, tenant_id, second, {"name": name})
