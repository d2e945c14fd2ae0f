"""Alarms and webhooks, as people handle them."""

from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlmodel import col, select

from core import bus as channels
from core.db.repositories import webhooks
from core.db.session import Database
from core.db.tables import Alert, AlertInstance, AuditEntry, TriggerOutbox, Webhook, WebhookDelivery
from core.webhooks import open_secret
from tests.api.conftest import Enter, Person
from tests.support.tenants import make_device, make_profile, make_tenant

URL = "http://127.0.0.1:9/hook"  # the tests' settings allow loopback


@pytest.fixture
async def alarm(owner: Database, tenant_id: UUID) -> UUID:
    """A raised alarm."""
    device = await make_device(owner, tenant_id, await make_profile(owner, tenant_id))
    async with owner.transaction(tenant_id) as session:
        definition = Alert(tenant_id=tenant_id, name="Overheating", severity="critical")
        session.add(definition)
        await session.flush()
        raised = AlertInstance(
            tenant_id=tenant_id,
            alert_id=definition.id,
            device_id=device.id,
            severity="critical",
            message="too hot",
            source_key=str(uuid4()),
        )
        session.add(raised)
        return raised.id


async def test_an_alarm_is_acknowledged_by_somebody_and_cleared(
    admin: Person, alarm: UUID, bus: Redis
) -> None:
    path = f"/api/v1/alerts/{alarm}"
    async with bus.pubsub(ignore_subscribe_messages=True) as notices:
        await notices.subscribe(channels.dashboard(admin.tenant_id))
        await notices.get_message(timeout=5)
        acknowledged = (await admin.client.post(f"{path}/acknowledge")).json()
        notice = await notices.get_message(timeout=5)
    assert acknowledged["status"] == "acknowledged"
    assert acknowledged["acknowledged_by"] == str(admin.user_id)
    assert notice is not None
    assert b'"acknowledged":true' in notice["data"]
    assert (await admin.client.post(f"{path}/acknowledge")).json() == acknowledged
    assert (await admin.client.post(f"{path}/clear")).json()["status"] == "cleared"
    assert (await admin.client.post(f"{path}/acknowledge")).status_code == 409


async def test_alarms_are_filtered(client: httpx.AsyncClient, alarm: UUID) -> None:
    async def count(**params: str) -> int:
        answer = await client.get("/api/v1/alerts", params=params)
        return answer.json()["pagination"]["total"]

    assert await count(status="raised", severity="critical") == 1
    assert await count(status="cleared") == 0
    assert await count(severity="info") == 0
    assert await count(device_id=str(uuid4())) == 0
    definitions = (await client.get("/api/v1/alerts/definitions")).json()
    assert [one["name"] for one in definitions["definitions"]] == ["Overheating"]


async def test_another_tenants_alarm_does_not_exist(
    alarm: UUID, enter: Enter, owner: Database
) -> None:
    other = (await enter(await make_tenant(owner))).client
    for answer in (
        await other.get(f"/api/v1/alerts/{alarm}"),
        await other.post(f"/api/v1/alerts/{alarm}/acknowledge"),
        await other.post(f"/api/v1/alerts/{alarm}/clear"),
    ):
        assert answer.status_code == 404
    assert (await other.get("/api/v1/alerts")).json()["alerts"] == []


async def test_a_webhooks_secret_is_shown_once_and_stored_encrypted(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, app: FastAPI
) -> None:
    answer = await client.post("/api/v1/webhooks", json={"name": "hook", "url": URL})
    assert answer.status_code == 201, answer.text
    secret, webhook = answer.json()["secret"], answer.json()["webhook"]
    assert secret.startswith("whsec_")
    assert "secret" not in (await client.get(f"/api/v1/webhooks/{webhook['id']}")).text
    async with owner.transaction(tenant_id) as session:
        stored = await session.get(Webhook, UUID(webhook["id"]))
        assert stored is not None
        assert secret.encode() not in stored.secret
        assert open_secret(app.state.services.vault, stored.id, stored.secret) == secret
    rotated = await client.post(f"/api/v1/webhooks/{webhook['id']}/secret/rotate")
    assert rotated.json()["secret"] not in ("", secret)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest",
        "ftp://example.org/x",
        "http://user:pw@example.org/",
        "nonsense",
    ],
)
async def test_a_webhook_may_not_lead_inside(client: httpx.AsyncClient, url: str) -> None:
    answer = await client.post("/api/v1/webhooks", json={"name": "hook", "url": url})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/url"


async def test_a_disabled_webhook_is_enabled_again_and_a_delivery_repeated(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID
) -> None:
    webhook_id = UUID(
        (await client.post("/api/v1/webhooks", json={"name": "hook", "url": URL})).json()[
            "webhook"
        ]["id"]
    )
    path = f"/api/v1/webhooks/{webhook_id}"
    async with owner.transaction(tenant_id) as session:
        delivery_id = await webhooks.create_delivery(
            session, tenant_id, webhook_id, event_type="alarm", body=b"{}", source_key="1"
        )
        delivery = await session.get(WebhookDelivery, delivery_id)
        assert delivery is not None
        delivery.status = "failed"
    assert (await client.patch(path, json={"enabled": False})).json()["enabled"] is False
    replay = f"{path}/deliveries/{delivery_id}/replay"
    assert (await client.post(replay)).status_code == 409
    assert (await client.post(f"{path}/enable")).json()["enabled"] is True
    again = await client.post(replay)
    assert again.status_code == 202, again.text
    assert again.json()["status"] == "pending"
    elsewhere = f"/api/v1/webhooks/{uuid4()}{replay.removeprefix(path)}"
    assert (await client.post(elsewhere)).status_code == 404
    listed = (await client.get(f"{path}/deliveries", params={"status": "pending"})).json()
    assert [one["id"] for one in listed["deliveries"]] == [str(delivery_id)]
    async with owner.transaction(tenant_id) as session:
        kinds = await session.scalars(
            select(TriggerOutbox.payload).where(col(TriggerOutbox.tenant_id) == tenant_id)
        )
        assert [row["workflow_type"] for row in kinds] == ["WebhookDelivery"]
        actions = set(
            await session.scalars(
                select(AuditEntry.action).where(col(AuditEntry.resource_id) == str(webhook_id))
            )
        )
    assert {"webhook.created", "webhook.updated", "webhook.replayed"} <= actions
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
