"""A run from its cause to its trace, on the real servers."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from activities.resources import open_resources
from core.db.session import Database
from core.db.tables import WorkflowExecution
from core.settings import Settings
from core.temporal.names import TaskQueue
from core.webhooks import new_secret
from tests.support.automations import (
    AskedRun,
    ask_for_run,
    definition,
    execution,
    make_automation,
    trace,
)
from tests.support.receiver import receiving
from tests.support.tenants import make_device, make_profile
from tests.support.waiting import eventually
from tests.support.webhooks import make_webhook
from workers.outbox_relay import OutboxRelay
from workers.worker import build_worker


@pytest.fixture
async def platform(
    postgres_server: Settings,
    valkey_server: Settings,
    worker_database: Database,
    bus: Redis,
    temporal_client: Client,
) -> AsyncIterator[None]:
    """The workers of runs and the relay."""
    async with open_resources(postgres_server) as resources:
        relay = asyncio.create_task(OutboxRelay(worker_database, bus, temporal_client).run())
        async with (
            build_worker(temporal_client, TaskQueue.AUTOMATION, resources),
            build_worker(temporal_client, TaskQueue.OUTBOUND, resources),
        ):
            yield
        relay.cancel()
        await asyncio.wait((relay,))


async def ended(database: Database, run: AskedRun) -> WorkflowExecution:
    async def check() -> WorkflowExecution | None:
        found = await execution(database, run)
        return found if found is not None and found.completed_at is not None else None

    return await eventually(check, timeout=30)


@pytest.mark.usefixtures("platform")
async def test_a_fired_trigger_ends_in_effects_and_a_trace(
    owner: Database, bus: Redis, settings: Settings, temporal_client: Client, tenant_id: UUID
) -> None:
    secret = new_secret()
    device = await make_device(owner, tenant_id, await make_profile(owner, tenant_id), "engine-1")
    async with receiving(secret) as receiver:
        webhook_id = await make_webhook(owner, settings, tenant_id, receiver.url(), secret)
        workflow_id = await make_automation(
            owner,
            tenant_id,
            definition(
                {
                    "id": "gate",
                    "type": "if",
                    "condition": "trigger.value > 1420",
                    "then": [{"id": "alarm", "type": "alarm", "with": {"name": "hot"}}],
                },
                {
                    "id": "tell",
                    "type": "webhook",
                    "with": {
                        "webhook": str(webhook_id),
                        "event_type": "engine.hot",
                        "data": {"alarm": "${steps.alarm.alarm_id}", "on": "${device.name}"},
                    },
                },
                conditions=[{"expr": "device.type == 'sensor'"}],
            ),
        )
        run = await ask_for_run(
            owner,
            bus,
            tenant_id,
            workflow_id,
            trigger={
                "type": "telemetry",
                "device_id": str(device.id),
                "value": 1421.5,
                "time": "2026-01-02T03:04:05Z",
            },
            device_id=device.id,
        )
        assert (await ended(owner, run)).status == "completed"
        await eventually(lambda: receiver.received)
    (received,) = receiver.received
    assert received.verified
    steps = await trace(owner, run)
    assert list(steps) == ["gate", "gate.then.alarm", "tell"]
    alarm_id = (steps["gate.then.alarm"].output or {})["alarm_id"]
    assert json.loads(received.body)["data"] == {"alarm": alarm_id, "on": "engine-1"}
    history = await temporal_client.get_workflow_handle(run.temporal_id).fetch_history()
    assert len(history.events) <= 14  # a short history is what makes runs quick


@pytest.mark.usefixtures("platform")
async def test_an_effect_that_cannot_be_fails_the_run_at_once_with_its_place(
    owner: Database, bus: Redis, tenant_id: UUID
) -> None:
    step = {"id": "tell", "type": "webhook", "with": {"webhook": "none", "event_type": "e"}}
    workflow_id = await make_automation(owner, tenant_id, definition(step))
    run = await ask_for_run(owner, bus, tenant_id, workflow_id)
    done = await ended(owner, run)
    assert done.status == "failed"
    assert done.error == {
        "type": "not_found",
        "message": "there is no webhook `none`",
        "step": "tell",
    }
    assert (await trace(owner, run))["tell"].status == "failed"
