"""One attempt of a webhook: what is sent, what is written down, what follows from the answer."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis
from temporalio.testing import ActivityEnvironment

from activities.resources import Resources
from activities.webhooks import WebhookActivities
from core import bus as channels
from core import webhooks
from core.crypto import Vault
from core.db.repositories import audit
from core.db.repositories import webhooks as repository
from core.db.session import Database
from core.db.tables import Webhook
from core.settings import Settings
from core.settings.secrets import Secrets
from core.temporal.webhook_contracts import AttemptInput, AttemptOutcome, AttemptResult, GiveUpInput
from tests.support.durable import opened_resources
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.waiting import eventually
from tests.support.webhooks import MadeDelivery, make_delivery, make_webhook


@dataclass
class Delivery:
    """One delivery to one receiver, and the family that attempts it."""

    resources: Resources
    tenant_id: UUID
    receiver: Receiver
    made: MadeDelivery

    def input(self, number: int = 1) -> AttemptInput:
        """Return the input of one attempt."""
        return AttemptInput(
            tenant_id=self.tenant_id,
            delivery_id=self.made.id,
            tries=number,
            attempt=number,
            jitter=0.5,
        )

    async def attempt(self, number: int = 1) -> AttemptResult:
        """Make one attempt."""
        family = WebhookActivities(self.resources)
        return await ActivityEnvironment().run(family.attempt, self.input(number))

    async def record(self) -> repository.DeliveryRecord:
        """Return what is written down."""
        async with self.resources.database.transaction(self.tenant_id) as session:
            return await repository.delivery(session, self.tenant_id, self.made.id)

    async def endpoint(self) -> Webhook:
        """Return the endpoint as it is now."""
        async with self.resources.database.transaction(self.tenant_id) as session:
            return await repository.get(session, self.tenant_id, self.made.webhook_id)

    async def fail_since(self, moment: datetime) -> None:
        """Let the endpoint have failed since then."""
        async with self.resources.database.transaction(self.tenant_id) as session:
            endpoint = await repository.get(session, self.tenant_id, self.made.webhook_id)
            endpoint.failing_since = moment


@pytest.fixture
async def delivery(
    settings: Settings, worker_database: Database, bus: Redis, tenant_id: UUID
) -> AsyncIterator[Delivery]:
    secret = webhooks.new_secret()
    async with (
        receiving(secret) as receiver,
        opened_resources(settings, worker_database, bus) as resources,
    ):
        webhook_id = await make_webhook(
            worker_database, settings, tenant_id, receiver.url(), secret
        )
        made = await make_delivery(worker_database, tenant_id, webhook_id)
        yield Delivery(resources, tenant_id, receiver, made)


async def test_the_stored_body_is_sent_byte_for_byte_and_signed(delivery: Delivery) -> None:
    result = await delivery.attempt()
    assert (result.outcome, result.status_code) == (AttemptOutcome.DELIVERED, 204)
    [request] = delivery.receiver.received
    assert request.verified
    assert request.body == delivery.made.body
    assert request.method == "POST"
    assert request.headers["webhook-id"] == str(delivery.made.id)
    assert request.headers["content-type"] == "application/json"
    record = await delivery.record()
    assert (record.delivery.status, record.delivery.attempts) == ("delivered", 1)
    assert record.delivery.completed_at is not None
    assert record.delivery.next_attempt_at is None
    [attempt] = record.attempts
    assert (attempt.attempt, attempt.status_code, attempt.error) == (1, 204, None)
    assert attempt.duration_ms > 0


@pytest.mark.parametrize("status", [199 + 1, 201, 299])
async def test_every_2xx_succeeds(delivery: Delivery, status: int) -> None:
    delivery.receiver.answers.append(Answer(status))
    assert (await delivery.attempt()).outcome is AttemptOutcome.DELIVERED


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500, 503])
async def test_every_other_status_is_tried_again(delivery: Delivery, status: int) -> None:
    delivery.receiver.answers.append(Answer(status, {"Location": "/elsewhere"}))
    result = await delivery.attempt()
    assert (result.outcome, result.retry_in) == (AttemptOutcome.RETRY, webhooks.RETRY_SCHEDULE[1])
    record = await delivery.record()
    assert record.delivery.status == "pending"
    assert record.delivery.next_attempt_at is not None
    assert record.attempts[0].error == f"the endpoint answered {status}"
    assert (await delivery.endpoint()).failing_since is not None
    assert len(delivery.receiver.received) == 1


async def test_retry_after_in_seconds_is_honoured(delivery: Delivery) -> None:
    delivery.receiver.answers.append(Answer(429, {"Retry-After": "77"}))
    assert (await delivery.attempt()).retry_in == 77


async def test_retry_after_as_a_date_is_honoured_and_bounded(delivery: Delivery) -> None:
    far = datetime.now(UTC) + timedelta(days=30)
    date = far.strftime("%a, %d %b %Y %H:%M:%S GMT")
    delivery.receiver.answers.append(Answer(503, {"Retry-After": date}))
    assert (await delivery.attempt()).retry_in == webhooks.MAX_RETRY_AFTER


async def test_an_attempt_that_was_written_down_is_not_made_again(delivery: Delivery) -> None:
    delivery.receiver.answers.append(Answer(500))
    first = await delivery.attempt()
    again = await delivery.attempt()
    assert len(delivery.receiver.received) == 1
    assert (again.outcome, again.status_code) == (first.outcome, 500)
    assert again.retry_in == pytest.approx(webhooks.RETRY_SCHEDULE[1], abs=1)


async def test_an_endpoint_that_hangs_is_tried_again(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery.resources.settings.outbound, "timeout", 0.3)
    delivery.receiver.answers.append(Answer(hang=True))
    result = await delivery.attempt()
    assert result.outcome is AttemptOutcome.RETRY
    assert result.error == "no complete answer within 0.3 s"


async def test_a_blocked_address_is_never_connected_to(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        delivery.resources.settings.outbound, "allow_networks", [IPv4Network("10.0.0.0/8")]
    )
    result = await delivery.attempt()
    assert result.outcome is AttemptOutcome.RETRY
    assert "may not reach" in (result.error or "")
    assert delivery.receiver.received == []


async def test_gone_disables_the_endpoint_and_tells_its_owner(
    delivery: Delivery, bus: Redis
) -> None:
    async with bus.pubsub() as notices:
        await notices.subscribe(channels.dashboard(delivery.tenant_id))
        delivery.receiver.answers.append(Answer(410))
        assert (await delivery.attempt()).outcome is AttemptOutcome.DISCARDED
        event = await eventually(lambda: _notice(notices, "webhook_disabled"))
    assert event["webhook_id"] == str(delivery.made.webhook_id)
    endpoint = await delivery.endpoint()
    assert (endpoint.enabled, endpoint.disabled_reason) == (False, "the endpoint answered 410 Gone")
    assert (await delivery.record()).delivery.status == "discarded"
    async with delivery.resources.database.transaction(delivery.tenant_id) as session:
        entry = await audit.find(
            session,
            action="webhook.disabled",
            resource_type="webhook",
            resource_id=str(delivery.made.webhook_id),
        )
    assert entry is not None
    assert entry.details["reason"] == "the endpoint answered 410 Gone"


async def test_lasting_failure_disables_the_endpoint(delivery: Delivery) -> None:
    await delivery.fail_since(datetime.now(UTC) - timedelta(days=5, minutes=1))
    delivery.receiver.answers.append(Answer(500))
    assert (await delivery.attempt()).outcome is AttemptOutcome.DISCARDED
    endpoint = await delivery.endpoint()
    assert not endpoint.enabled
    assert endpoint.disabled_reason == (
        "every delivery failed for 5 days; last: the endpoint answered 500"
    )


async def test_one_success_ends_a_row_of_failures(delivery: Delivery) -> None:
    await delivery.fail_since(datetime.now(UTC) - timedelta(days=6))
    assert (await delivery.attempt()).outcome is AttemptOutcome.DELIVERED
    endpoint = await delivery.endpoint()
    assert (endpoint.enabled, endpoint.failing_since) == (True, None)


async def test_the_last_attempt_gives_up(delivery: Delivery) -> None:
    delivery.receiver.answers.append(Answer(500))
    result = await delivery.attempt(number=len(webhooks.RETRY_SCHEDULE))
    assert (result.outcome, result.retry_in) == (AttemptOutcome.FAILED, None)
    assert (await delivery.record()).delivery.status == "failed"


async def test_nothing_is_sent_to_a_disabled_endpoint(delivery: Delivery) -> None:
    async with delivery.resources.database.transaction(delivery.tenant_id) as session:
        await repository.update(
            session, delivery.tenant_id, delivery.made.webhook_id, {"enabled": False}
        )
    assert (await delivery.attempt()).outcome is AttemptOutcome.DISCARDED
    assert (await delivery.record()).delivery.status == "discarded"
    assert delivery.receiver.received == []


async def test_nothing_is_sent_to_a_deleted_endpoint(delivery: Delivery) -> None:
    async with delivery.resources.database.transaction(delivery.tenant_id) as session:
        await repository.delete(session, delivery.tenant_id, delivery.made.webhook_id)
    assert (await delivery.attempt()).outcome is AttemptOutcome.DISCARDED
    assert delivery.receiver.received == []


async def test_a_secret_that_cannot_be_read_fails_the_delivery_and_not_the_endpoint(
    delivery: Delivery,
) -> None:
    other_key = Vault(Secrets.generate().vault_key)
    delivery.resources = replace(delivery.resources, vault=other_key)
    result = await delivery.attempt()
    assert result.outcome is AttemptOutcome.FAILED
    assert result.error == "the endpoint's secret cannot be decrypted"
    assert (await delivery.endpoint()).failing_since is None
    assert delivery.receiver.received == []


async def test_giving_up_leaves_what_has_ended_as_it_is(delivery: Delivery) -> None:
    family = WebhookActivities(delivery.resources)
    call = GiveUpInput(tenant_id=delivery.tenant_id, delivery_id=delivery.made.id)
    await delivery.attempt()
    await ActivityEnvironment().run(family.give_up, call)
    assert (await delivery.record()).delivery.status == "delivered"


async def test_an_attempt_does_not_need_the_bus(delivery: Delivery) -> None:
    nowhere = Redis(port=1, socket_connect_timeout=1)
    delivery.resources = replace(delivery.resources, bus=nowhere)
    assert (await delivery.attempt()).outcome is AttemptOutcome.DELIVERED
    await nowhere.aclose()


async def _notice(subscription: Any, kind: str) -> dict[str, Any] | None:
    message = await subscription.get_message(ignore_subscribe_messages=True, timeout=1)
    if message is None:
        return None
    event = json.loads(message["data"])
    return event if event["type"] == kind else None
