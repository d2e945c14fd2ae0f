"""Webhooks are delivered by schedule, through failures of the receiver and of our own processes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.json_format import ParseDict
from redis.asyncio import Redis
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.webhooks import WebhookActivities
from core import webhooks
from core.db.repositories import webhooks as repository
from core.db.session import Database
from core.errors import ConflictError
from core.settings import Settings
from core.temporal.contracts import WebhookDeliveryInput
from core.temporal.names import TaskQueue, WorkflowType, webhook_delivery_id
from core.temporal.webhook_contracts import AttemptOutcome, WebhookDeliveryResult
from tests.support.durable import opened_resources, skipping_time, working
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.waiting import eventually
from tests.support.webhooks import MadeDelivery, make_delivery, make_webhook
from workflows.webhook_delivery import WebhookDelivery


@dataclass
class Stage:
    """A receiver, one delivery to it, and workers on a server that skips time."""

    environment: WorkflowEnvironment
    receiver: Receiver
    database: Database
    tenant_id: UUID
    made: MadeDelivery

    async def start(self, first_attempt: int = 1, suffix: str = "") -> WorkflowHandle[Any, Any]:
        """Start the delivery workflow."""
        return await _start(
            self.environment.client, self.tenant_id, self.made.id, first_attempt, suffix
        )

    async def record(self) -> repository.DeliveryRecord:
        """Return what is written down."""
        async with self.database.transaction(self.tenant_id) as session:
            return await repository.delivery(session, self.tenant_id, self.made.id)


async def _start(
    client: Client, tenant_id: UUID, delivery_id: UUID, first_attempt: int = 1, suffix: str = ""
) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(
        WorkflowType.WEBHOOK_DELIVERY,
        WebhookDeliveryInput(
            tenant_id=tenant_id, delivery_id=delivery_id, first_attempt=first_attempt
        ),
        id=webhook_delivery_id(tenant_id, delivery_id) + suffix,
        task_queue=TaskQueue.AUTOMATION,
        result_type=WebhookDeliveryResult,
    )


@pytest.fixture
async def stage(
    settings: Settings, worker_database: Database, bus: Redis, tenant_id: UUID
) -> AsyncIterator[Stage]:
    secret = webhooks.new_secret()
    async with (
        receiving(secret) as receiver,
        skipping_time(settings) as environment,
        opened_resources(settings, worker_database, bus) as resources,
        working(
            environment.client,
            [WebhookDelivery],
            {TaskQueue.OUTBOUND: [WebhookActivities(resources)]},
        ),
    ):
        webhook_id = await make_webhook(
            worker_database, settings, tenant_id, receiver.url(), secret
        )
        made = await make_delivery(worker_database, tenant_id, webhook_id)
        yield Stage(environment, receiver, worker_database, tenant_id, made)


async def test_a_delivery_succeeds_after_failures_with_one_id_and_one_body(stage: Stage) -> None:
    stage.receiver.answers += [Answer(500), Answer(429, {"Retry-After": "3600"}), Answer(503)]
    handle = await stage.start()
    result = await handle.result()
    assert result == WebhookDeliveryResult(outcome=AttemptOutcome.DELIVERED, attempts=4)
    assert len(stage.receiver.received) == 4
    assert {request.headers["webhook-id"] for request in stage.receiver.received} == {
        str(stage.made.id)
    }
    assert {request.body for request in stage.receiver.received} == {stage.made.body}
    assert all(request.verified for request in stage.receiver.received)
    record = await stage.record()
    assert [a.status_code for a in record.attempts] == [500, 429, 503, 204]
    assert record.delivery.status == "delivered"
    # 5 s, the hour that was asked for instead of 5 min, 30 min.
    assert await _took(handle) == pytest.approx(5 + 3600 + 1800, rel=webhooks.JITTER)


async def test_a_delivery_is_given_up_after_the_whole_schedule(stage: Stage) -> None:
    stage.receiver.answers += [Answer(500)] * 20
    handle = await stage.start()
    result = await handle.result()
    assert result == WebhookDeliveryResult(outcome=AttemptOutcome.FAILED, attempts=10)
    assert len(stage.receiver.received) == 10
    record = await stage.record()
    assert (record.delivery.status, record.delivery.next_attempt_at) == ("failed", None)
    assert [attempt.attempt for attempt in record.attempts] == list(range(1, 11))
    assert await _took(handle) == pytest.approx(sum(webhooks.RETRY_SCHEDULE), rel=webhooks.JITTER)


async def test_a_delivery_ends_when_its_endpoint_is_disabled_while_it_waits(stage: Stage) -> None:
    stage.receiver.answers += [Answer(500)] * 20
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        await eventually(lambda: stage.receiver.received)
        async with stage.database.transaction(stage.tenant_id) as session:
            await repository.update(
                session, stage.tenant_id, stage.made.webhook_id, {"enabled": False}
            )
    assert (await handle.result()).outcome is AttemptOutcome.DISCARDED
    assert len(stage.receiver.received) == 1
    assert (await stage.record()).delivery.status == "discarded"


async def test_a_cancelled_delivery_is_marked_failed(stage: Stage) -> None:
    stage.receiver.answers += [Answer(500)] * 20
    with stage.environment.auto_time_skipping_disabled():
        handle = await stage.start()
        # A cancellation that meets the end of an attempt makes the test server (not the real one)
        # refuse the workflow's answer for ever.
        await eventually(lambda: _waits(handle))
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert (await stage.record()).delivery.status == "failed"


async def _waits(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether the delivery waits for its next attempt."""
    history = await handle.fetch_history()
    return history.events[-1].event_type == EventType.EVENT_TYPE_TIMER_STARTED


async def test_a_replay_sends_the_same_id_and_body_again(stage: Stage) -> None:
    stage.receiver.answers += [Answer(410)]
    await (await stage.start()).result()
    tenant_id, delivery_id = stage.tenant_id, stage.made.id
    async with stage.database.transaction(tenant_id) as session:
        with pytest.raises(ConflictError, match="disabled"):
            await repository.requeue(session, tenant_id, delivery_id)
        await repository.update(session, tenant_id, stage.made.webhook_id, {"enabled": True})
        again = await repository.requeue(session, tenant_id, delivery_id)
    async with stage.database.transaction(tenant_id) as session:
        with pytest.raises(ConflictError, match="under way"):
            await repository.requeue(session, tenant_id, delivery_id)
    suffix = again.removeprefix(webhook_delivery_id(tenant_id, delivery_id))
    assert suffix.startswith(":replay:")
    result = await (await stage.start(2, suffix)).result()
    assert result == WebhookDeliveryResult(outcome=AttemptOutcome.DELIVERED, attempts=1)
    first, second = stage.receiver.received
    assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
    record = await stage.record()
    assert [a.status_code for a in record.attempts] == [410, 204]
    assert record.delivery.status == "delivered"


async def test_no_payload_of_a_delivery_holds_the_secret_or_the_body(stage: Stage) -> None:
    await (handle := await stage.start()).result()
    history = json.loads((await handle.fetch_history()).to_json())
    codec = stage.environment.client.data_converter.payload_codec
    assert codec is not None
    plain = b"".join(payload.data for payload in await codec.decode(_payloads(history)))
    assert str(stage.made.id).encode() in plain
    assert stage.made.body not in plain
    assert b"whsec" not in plain


def _payloads(node: Any) -> list[Payload]:
    if isinstance(node, dict) and {"metadata", "data"} <= node.keys():
        return [ParseDict(node, Payload())]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [payload for child in children for payload in _payloads(child)]


async def _took(handle: WorkflowHandle[Any, Any]) -> float:
    run = await handle.describe()
    assert run.close_time is not None
    return (run.close_time - run.start_time).total_seconds()


@pytest.mark.slow
async def test_a_worker_killed_in_mid_attempt_loses_nothing(
    settings: Settings,
    worker_database: Database,
    bus: Redis,
    temporal_client: Client,
    tenant_id: UUID,
) -> None:
    secret = webhooks.new_secret()
    async with receiving(secret) as receiver:
        receiver.answers.append(Answer(hang=True))
        webhook_id = await make_webhook(
            worker_database, settings, tenant_id, receiver.url(), secret
        )
        made = await make_delivery(worker_database, tenant_id, webhook_id)
        doomed = await _worker_process()
        try:
            handle = await _start(temporal_client, tenant_id, made.id)
            await eventually(lambda: receiver.received, timeout=30)
        finally:
            doomed.kill()
            await doomed.wait()
        heir = await _worker_process()
        try:
            async with asyncio.timeout(60):
                result = await handle.result()
        finally:
            heir.terminate()
            await heir.wait()
        assert result == WebhookDeliveryResult(outcome=AttemptOutcome.DELIVERED, attempts=1)
        assert len(receiver.received) == 2
        assert {request.headers["webhook-id"] for request in receiver.received} == {str(made.id)}
        assert {request.body for request in receiver.received} == {made.body}
        async with worker_database.transaction(tenant_id) as session:
            record = await repository.delivery(session, tenant_id, made.id)
        assert [a.status_code for a in record.attempts] == [204]


async def _worker_process() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.webhook_worker", env=dict(os.environ)
    )
