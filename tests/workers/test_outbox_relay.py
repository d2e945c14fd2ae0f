"""What the database has committed is told to Temporal, once."""

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from redis.asyncio import Redis
from sqlmodel import col, select
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey

from core.db.repositories import outbox
from core.db.repositories import outbox_relay as repository
from core.db.session import Database
from core.db.tables import TriggerOutbox
from core.settings import Settings
from core.temporal.client import connect
from core.temporal.names import Signal, WorkflowType
from core.temporal.outbox import OutboxPayload, SendSignal, StartWorkflow
from tests.support.automations import (
    AskedRun,
    ask_for_run,
    definition,
    execution,
    make_automation,
)
from tests.support.servers import free_port
from tests.support.tenants import make_device, make_profile, make_tenant
from tests.support.waiting import eventually
from workers.outbox_relay import OutboxRelay

STEP: dict[str, Any] = {"id": "s", "type": "set", "with": {"vars": {"x": 1}}}


async def row(database: Database, key: str) -> TriggerOutbox:
    async with database.transaction(None) as session:
        found = await session.execute(select(TriggerOutbox).where(col(TriggerOutbox.key) == key))
        return found.scalar_one()


async def make_due(owner: Database) -> None:
    """Let what was put off be due."""
    async with owner.transaction(None) as session:
        await session.execute(
            sa.update(TriggerOutbox)
            .where(col(TriggerOutbox.done_at).is_(None))
            .values(available_at=sa.func.now())
        )


async def relay_all(owner: Database, relay: OutboxRelay) -> None:
    await make_due(owner)
    while await relay.relay_batch():
        pass


async def enqueue(database: Database, tenant_id: UUID, payload: OutboxPayload) -> str:
    async with database.transaction(tenant_id) as session:
        await outbox.enqueue(session, tenant_id, payload)
    return outbox.outbox_key(tenant_id, payload)


async def end(client: Client, *runs: AskedRun) -> None:
    for run in runs:
        await client.get_workflow_handle(run.temporal_id).terminate()


async def test_a_run_is_started_with_its_snapshot_and_search_attributes(
    owner: Database, bus: Redis, relay: OutboxRelay, temporal_client: Client, tenant_id: UUID
) -> None:
    device = await make_device(owner, tenant_id, await make_profile(owner, tenant_id), "engine-1")
    workflow_id = await make_automation(owner, tenant_id, definition(STEP))
    trigger = {"type": "telemetry", "device_id": str(device.id), "value": 1.5}
    run = await ask_for_run(
        owner, bus, tenant_id, workflow_id, trigger=trigger, device_id=device.id, dry_run=True
    )
    await relay_all(owner, relay)
    found = await execution(owner, run)
    assert found is not None
    assert (found.status, found.version, found.dry_run) == ("pending", 1, True)
    assert (found.trigger, found.device_id) == (trigger, device.id)
    handle = temporal_client.get_workflow_handle(run.temporal_id)
    described = await handle.describe()
    attributes = described.typed_search_attributes
    assert attributes[SearchAttributeKey.for_keyword("IotTenant")] == str(tenant_id)
    assert attributes[SearchAttributeKey.for_keyword("IotAutomation")] == str(workflow_id)
    assert attributes[SearchAttributeKey.for_int("IotVersion")] == 1
    assert attributes[SearchAttributeKey.for_keyword("IotTrigger")] == "telemetry"
    assert attributes[SearchAttributeKey.for_keyword("IotDevice")] == str(device.id)
    event = (await handle.fetch_history()).events[0]
    payloads = event.workflow_execution_started_event_attributes.input.payloads
    (given, _) = await temporal_client.data_converter.decode(payloads)
    assert given["definition"] == definition(STEP)
    assert given["device"] == {
        "id": str(device.id),
        "name": "engine-1",
        "type": "sensor",
        "metadata": {},
        "location": None,
        "site": None,
        "tags": [],
    }
    done = await row(owner, run.temporal_id)
    assert (done.done_at is not None, done.attempts, done.last_error) == (True, 1, None)
    await end(temporal_client, run)


async def test_a_relay_that_died_before_marking_tells_again_and_nothing_starts_twice(
    owner: Database, bus: Redis, relay: OutboxRelay, temporal_client: Client, tenant_id: UUID
) -> None:
    workflow_id = await make_automation(owner, tenant_id, definition(STEP))
    run = await ask_for_run(owner, bus, tenant_id, workflow_id)
    await relay_all(owner, relay)
    handle = temporal_client.get_workflow_handle(run.temporal_id)
    first = await handle.describe()
    await handle.terminate()
    async with owner.transaction(None) as session:
        await session.execute(
            sa.update(TriggerOutbox)
            .where(col(TriggerOutbox.key) == run.temporal_id)
            .values(done_at=None)
        )
    await relay_all(owner, relay)
    again = await handle.describe()
    assert again.run_id == first.run_id
    assert again.status is WorkflowExecutionStatus.TERMINATED
    assert (await row(owner, run.temporal_id)).done_at is not None


async def test_two_relays_share_the_work(
    owner: Database,
    bus: Redis,
    relay: OutboxRelay,
    worker_database: Database,
    temporal_client: Client,
    tenant_id: UUID,
) -> None:
    workflow_id = await make_automation(owner, tenant_id, definition(STEP))
    runs = [await ask_for_run(owner, bus, tenant_id, workflow_id) for _ in range(100)]
    other = OutboxRelay(worker_database, bus, temporal_client)
    looked_at = await asyncio.gather(relay.relay_batch(), other.relay_batch())
    assert sum(looked_at) == 100
    for run in runs:
        done = await row(owner, run.temporal_id)
        assert (done.attempts, done.done_at is not None) == (1, True)
    await end(temporal_client, *runs)


async def test_while_temporal_is_down_rows_wait_longer_and_longer(
    owner: Database,
    bus: Redis,
    settings: Settings,
    worker_database: Database,
    relay: OutboxRelay,
    temporal_client: Client,
    tenant_id: UUID,
) -> None:
    temporal = settings.temporal.model_copy(update={"port": free_port()})
    nowhere = await connect(dataclasses.replace(settings, temporal=temporal), lazy=True)
    cut_off = OutboxRelay(worker_database, bus, nowhere)
    workflow_id = await make_automation(owner, tenant_id, definition(STEP))
    run = await ask_for_run(owner, bus, tenant_id, workflow_id)
    waits: list[timedelta] = []
    for attempt in (1, 2, 3):
        await relay_all(owner, cut_off)
        waiting = await row(owner, run.temporal_id)
        assert (waiting.attempts, waiting.done_at) == (attempt, None)
        assert waiting.last_error
        async with owner.transaction(None) as session:
            now = await session.scalar(sa.select(sa.func.now()))
        assert waiting.available_at is not None
        assert isinstance(now, type(waiting.available_at))
        waits.append(waiting.available_at - now)
    assert timedelta(0) < waits[0] < waits[1] < waits[2] < timedelta(seconds=3)
    await relay_all(owner, relay)
    assert (await row(owner, run.temporal_id)).done_at is not None
    await end(temporal_client, run)


async def test_a_row_that_can_never_be_told_is_refused_and_hinders_nobody(
    owner: Database, bus: Redis, relay: OutboxRelay, temporal_client: Client, tenant_id: UUID
) -> None:
    workflow_id = await make_automation(owner, tenant_id, definition(STEP))
    lost = await ask_for_run(owner, bus, tenant_id, workflow_id, version=7)
    good = await ask_for_run(owner, bus, tenant_id, workflow_id)
    async with owner.transaction(tenant_id) as session:
        session.add(
            TriggerOutbox(
                tenant_id=tenant_id, kind="signal", key=f"bad-{tenant_id}", payload={"kind": "?"}
            )
        )
    await relay_all(owner, relay)
    refused = await row(owner, lost.temporal_id)
    assert refused.done_at is not None
    assert "there is no version 7" in (refused.last_error or "")
    assert (await row(owner, f"bad-{tenant_id}")).last_error
    assert await execution(owner, good) is not None
    await end(temporal_client, good)


async def test_one_tenants_relay_cannot_start_another_tenants_automation(
    owner: Database, bus: Redis, relay: OutboxRelay, tenant_id: UUID
) -> None:
    workflow_id = await make_automation(owner, tenant_id, definition(STEP))
    stranger = await make_tenant(owner)
    run = await ask_for_run(owner, bus, stranger, workflow_id)
    await relay_all(owner, relay)
    assert "there is no version" in ((await row(owner, run.temporal_id)).last_error or "")
    assert await execution(owner, run) is None


async def test_a_single_automation_drops_events_of_a_device_while_it_runs(
    owner: Database, bus: Redis, relay: OutboxRelay, temporal_client: Client, tenant_id: UUID
) -> None:
    profile = await make_profile(owner, tenant_id)
    one, two = [await make_device(owner, tenant_id, profile) for _ in range(2)]
    workflow_id = await make_automation(
        owner, tenant_id, definition(STEP, settings={"mode": "single"})
    )

    async def ask(device_id: UUID) -> AskedRun:
        run = await ask_for_run(owner, bus, tenant_id, workflow_id, device_id=device_id)
        await relay_all(owner, relay)
        return run

    first, dropped, other = await ask(one.id), await ask(one.id), await ask(two.id)
    statuses = [
        found.status if (found := await execution(owner, run)) else None
        for run in (first, dropped, other)
    ]
    assert statuses == ["pending", "cancelled", "pending"]
    found = await execution(owner, dropped)
    assert found is not None
    assert (found.error or {})["type"] == "AlreadyRunning"
    # Ended by an operator, so that it could not record its end itself.
    await end(temporal_client, first, other)
    after = await ask(one.id)
    ended, started = await execution(owner, first), await execution(owner, after)
    assert ended is not None
    assert started is not None
    assert (ended.status, (ended.error or {})["type"]) == ("failed", "Terminated")
    assert started.status == "pending"
    await end(temporal_client, after)


async def test_runs_beyond_the_limit_wait_for_a_slot(
    owner: Database, bus: Redis, relay: OutboxRelay, temporal_client: Client, tenant_id: UUID
) -> None:
    workflow_id = await make_automation(
        owner, tenant_id, definition(STEP, settings={"max_runs": 2})
    )
    runs = [await ask_for_run(owner, bus, tenant_id, workflow_id) for _ in range(3)]
    await relay_all(owner, relay)
    started = [run for run in runs if await execution(owner, run) is not None]
    (held,) = [run for run in runs if run not in started]
    waiting = await row(owner, held.temporal_id)
    assert (waiting.done_at, waiting.attempts) == (None, 1)
    await end(temporal_client, started[0])
    await relay_all(owner, relay)
    assert await execution(owner, held) is not None
    await end(temporal_client, started[1], held)


async def test_any_workflow_is_started_and_signalled_and_a_gone_one_is_no_error(
    owner: Database, relay: OutboxRelay, temporal_client: Client, tenant_id: UUID
) -> None:
    workflow_id = f"provision:{tenant_id}:{uuid4()}"
    await enqueue(
        owner,
        tenant_id,
        StartWorkflow(
            workflow_type=WorkflowType.DEVICE_PROVISIONING,
            workflow_id=workflow_id,
            input={"a": 1},
        ),
    )
    signal = SendSignal(workflow_id=workflow_id, signal=Signal.DEVICE_CONNECTED, payload={"b": 2})
    early = await enqueue(owner, tenant_id, signal)
    async with owner.transaction(None) as session:
        await session.execute(
            sa.update(TriggerOutbox)
            .where(col(TriggerOutbox.key) == workflow_id)
            .values(available_at=sa.func.now() + timedelta(hours=1))
        )
    await relay.relay_batch()
    assert (await row(owner, early)).done_at is None  # its workflow's own start is still due
    await relay_all(owner, relay)
    await relay_all(owner, relay)
    assert (await row(owner, early)).done_at is not None
    handle = temporal_client.get_workflow_handle(workflow_id)
    events = (await handle.fetch_history()).events
    assert any(e.HasField("workflow_execution_signaled_event_attributes") for e in events)
    await handle.terminate()
    gone = SendSignal(workflow_id="nothing", signal=Signal.DEVICE_CONNECTED, payload={})
    key = await enqueue(owner, tenant_id, gone)
    await relay_all(owner, relay)
    assert (await row(owner, key)).last_error is None


async def test_told_rows_are_deleted_after_their_time(
    owner: Database, worker_database: Database, tenant_id: UUID
) -> None:
    keys = [f"old-{tenant_id}", f"new-{tenant_id}", f"due-{tenant_id}"]
    async with owner.transaction(tenant_id) as session:
        for key in keys:
            session.add(TriggerOutbox(tenant_id=tenant_id, kind="signal", key=key, payload={}))
        await session.flush()
        for key, age in ((keys[0], timedelta(hours=25)), (keys[1], timedelta(hours=23))):
            await session.execute(
                sa.update(TriggerOutbox)
                .where(col(TriggerOutbox.key) == key)
                .values(done_at=sa.func.now() - age)
            )
        await session.execute(
            sa.update(TriggerOutbox)
            .where(col(TriggerOutbox.key) == keys[2])
            .values(available_at=sa.func.now() + timedelta(days=1))
        )
    async with worker_database.transaction(None) as session:
        await repository.sweep(session, timedelta(days=1))
    async with owner.transaction(None) as session:
        left = await session.execute(
            select(TriggerOutbox.key).where(col(TriggerOutbox.key).in_(keys))
        )
        assert set(left.scalars()) == {keys[1], keys[2]}
        await session.execute(sa.delete(TriggerOutbox).where(col(TriggerOutbox.key).in_(keys)))


async def test_a_notice_wakes_the_relay(
    owner: Database,
    bus: Redis,
    relay: OutboxRelay,
    temporal_client: Client,
    tenant_id: UUID,
) -> None:
    workflow_id = await make_automation(owner, tenant_id, definition(STEP))
    task = asyncio.create_task(relay.run())
    run = await ask_for_run(owner, bus, tenant_id, workflow_id)

    async def done() -> bool:
        return (await row(owner, run.temporal_id)).done_at is not None

    await eventually(done)
    task.cancel()
    await asyncio.wait((task,))
    await end(temporal_client, run)
