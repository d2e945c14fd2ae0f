"""Triggers fire once, with their message, and remember through restarts."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from core import bus as channels
from core.db.session import Database
from core.db.tables import Workflow, WorkflowVersion
from core.settings import Settings
from core.temporal.names import run_id
from tests.broker.conftest import broker_running, broker_settings, metric
from tests.broker.raw import RawClient, publish_packet, telemetry_topic
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
START_MS = int(datetime.now(UTC).timestamp() * 1000) - 3_600_000
"""In the past: what is ahead of the clock is judged as of its receipt."""
HOT: dict[str, Any] = {
    "type": "telemetry",
    "device_type": "engine",
    "metric": "t",
    "when": {"op": ">", "value": 100},
}


async def publish(
    owner: Database, tenant_id: UUID, *triggers: dict[str, Any], workflow: UUID | None = None
) -> UUID:
    """Publish an automation, or a new version of one; return its id."""
    async with owner.transaction(tenant_id) as session:
        if workflow is None:
            automation = Workflow(tenant_id=tenant_id, name="Overheating", current_version=1)
            session.add(automation)
            await session.flush()
        else:
            found = await session.get(Workflow, workflow)
            assert found is not None
            automation = found
            automation.current_version = (automation.current_version or 0) + 1
        session.add(
            WorkflowVersion(
                workflow_id=automation.id,
                version=automation.current_version or 1,
                tenant_id=tenant_id,
                definition={"name": "x", "triggers": [*triggers], "actions": []},
            )
        )
        return automation.id


async def measure(client: RawClient, device: MadeDevice, *values: tuple[int, float]) -> None:
    """Send (second, value) one by one; returns once all are acknowledged."""
    for second, value in values:
        payload = json.dumps({"ts": START_MS + second * 1000, "values": {"t": value}})
        await client.send(publish_packet(telemetry_topic(device), payload.encode()))
        assert (await client.packet())[0] == 0x40


async def outbox(sql: Sql, tenant_id: UUID) -> list[dict[str, Any]]:
    rows = await sql.fetch("SELECT * FROM trigger_outbox WHERE tenant_id=$1 ORDER BY id", tenant_id)
    return [dict(row) | {"payload": json.loads(row["payload"])} for row in rows]


async def test_a_firing_is_in_the_outbox_with_what_the_run_needs(
    postgres_server: Settings,
    valkey_server: Settings,
    owner: Database,
    device: MadeDevice,
    tenant_id: UUID,
    sql: Sql,
) -> None:
    workflow = await publish(owner, tenant_id, {"type": "manual"}, HOT | {"hysteresis": 5})
    async with (
        broker_running(broker_settings(postgres_server)) as broker,
        RawClient(broker) as client,
    ):
        await client.sign_in(device)
        await measure(client, device, (0, 50), (1, 101), (2, 102), (3, 96), (4, 101))
        (row,) = await outbox(sql, tenant_id)
        event = f"t1:{device.id}:{START_MS + 1000}"
        assert row["kind"] == row["payload"]["kind"] == "start_run"
        assert row["key"] == run_id(tenant_id, workflow, event)
        assert row["payload"]["workflow_id"] == str(workflow)
        assert row["payload"]["version"] == 1
        assert row["payload"]["device_id"] == str(device.id)
        trigger = row["payload"]["trigger"]
        at = datetime.fromisoformat(trigger.pop("time"))
        assert at.timestamp() * 1000 == START_MS + 1000
        assert trigger == {
            "type": "telemetry",
            "device_id": str(device.id),
            "metric": "t",
            "value": 101.0,
            "values": {"t": 101.0},
        }
        await measure(client, device, (5, 95), (6, 101))
        assert len(await outbox(sql, tenant_id)) == 2
        assert await metric(broker, "iotlinker_triggers_fired_total") == 2


@asynccontextmanager
async def broker_process(
    settings: Settings, module: str = "broker.main", *arguments: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run the broker as a process of its own."""
    environment = os.environ | {
        "IOTLINKER_BROKER_PORT": str(settings.broker.port),
        "IOTLINKER_BROKER_METRICS_PORT": str(settings.broker.metrics_port),
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env=environment, stderr=subprocess.DEVNULL
    )

    async def ready() -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            try:
                url = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
                return (await client.get(url)).status_code == 200
            except httpx.TransportError:
                return False

    try:
        await eventually(ready, timeout=30)
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        async with asyncio.timeout(10):
            await child.wait()


@pytest.mark.slow
async def test_for_and_cooldown_survive_a_killed_broker(
    postgres_server: Settings,
    valkey_server: Settings,
    owner: Database,
    device: MadeDevice,
    tenant_id: UUID,
    sql: Sql,
) -> None:
    await publish(owner, tenant_id, HOT | {"for": "PT2M", "cooldown": "PT10M"})
    settings = broker_settings(postgres_server)
    batches = [
        [(0, 101), (60, 101)],
        [(119, 101), (120, 101), (121, 101)],  # two minutes since the first: it fires
        [(140, 50), (200, 101), (330, 101), (720, 101)],  # the last is after the cooldown
    ]
    for batch, firings in zip(batches, (0, 1, 2), strict=True):
        async with broker_process(settings) as child, RawClient(settings) as client:
            await client.sign_in(device)
            await measure(client, device, *batch)
            child.send_signal(signal.SIGKILL)
        assert len(await outbox(sql, tenant_id)) == firings


@pytest.mark.slow
async def test_what_a_killed_broker_acknowledged_is_stored_once_after_redelivery(
    postgres_server: Settings,
    valkey_server: Settings,
    owner: Database,
    device: MadeDevice,
    tenant_id: UUID,
    sql: Sql,
) -> None:
    await publish(owner, tenant_id, HOT)
    settings = broker_settings(postgres_server)
    topic, count = telemetry_topic(device), 40_000

    def message(number: int) -> bytes:
        # Every hundredth is hot, the others release the trigger.
        value = 101 if number % 100 == 0 else 1
        body = json.dumps({"ts": START_MS - number * 1000, "values": {"t": value}})
        return publish_packet(topic, body.encode(), packet_id=number + 1)

    messages = [message(number) for number in reversed(range(count))]
    acknowledged: set[int] = set()
    async with broker_process(settings) as child, RawClient(settings) as client:
        await client.sign_in(device)
        sending = asyncio.create_task(client.send(*messages))
        acknowledged.add(int.from_bytes((await client.packet())[1]))
        child.send_signal(signal.SIGKILL)
        try:
            while True:
                acknowledged.add(int.from_bytes((await client.packet())[1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            sending.cancel()
            await asyncio.wait([sending])
    stored = await sql.fetch("SELECT time FROM telemetry WHERE device_id = $1", device.id)
    there = {START_MS - round(row["time"].timestamp() * 1000) for row in stored}
    assert {(number - 1) * 1000 for number in acknowledged} <= there
    assert len(acknowledged) < count
    async with broker_process(settings), RawClient(settings) as client:
        await client.sign_in(device)
        # A device repeats what was not acknowledged, and here some of what was.
        first = next(i for i in range(count) if count - i not in acknowledged)
        again = messages[max(0, first - 200) :]
        await client.send(*again)
        for _ in again:
            await client.packet()
    assert await sql.fetchval("SELECT count(*) FROM telemetry WHERE device_id=$1", device.id) == (
        count
    )
    assert len(await outbox(sql, tenant_id)) == count // 100


async def test_publishing_changing_and_disabling_take_effect_when_told(
    broker: Settings,
    owner: Database,
    device: MadeDevice,
    tenant_id: UUID,
    sql: Sql,
    bus: Redis,
) -> None:
    async def told() -> None:
        await bus.publish(channels.TRIGGERS_CHANGED, str(tenant_id))

    async with RawClient(broker) as client:
        await client.sign_in(device)
        await measure(client, device, (0, 101))
        assert await outbox(sql, tenant_id) == []
        workflow = await publish(owner, tenant_id, HOT)
        await told()
        second = iter(range(1, 100_000))

        async def fires(count: int) -> None:
            async def fired() -> bool:
                at = next(second)
                await measure(client, device, (at, 150))
                return len(await outbox(sql, tenant_id)) == count

            await eventually(fired)

        await fires(1)
        # A changed trigger has forgotten that it was active.
        changed = HOT | {"when": {"op": ">", "value": 120}}
        await publish(owner, tenant_id, changed, workflow=workflow)
        await told()
        await fires(2)
        assert (await outbox(sql, tenant_id))[1]["payload"]["version"] == 2
        # The same trigger in a new version goes on as it was.
        await publish(owner, tenant_id, changed, workflow=workflow)
        await told()
        await measure(client, device, (next(second), 150), (next(second), 150))
        assert len(await outbox(sql, tenant_id)) == 2
        await sql.execute("UPDATE workflows SET enabled = false WHERE id = $1", workflow)
        await told()

        async def forgotten() -> bool:
            states = "SELECT count(*) FROM trigger_states WHERE workflow_id = $1"
            return await sql.fetchval(states, workflow) == 0

        await eventually(forgotten)
        await measure(client, device, (next(second), 1), (next(second), 150))
        assert len(await outbox(sql, tenant_id)) == 2


async def test_a_trigger_that_does_not_compile_is_skipped_and_the_others_work(
    postgres_server: Settings,
    valkey_server: Settings,
    owner: Database,
    device: MadeDevice,
    tenant_id: UUID,
    sql: Sql,
) -> None:
    failing = HOT | {"when": {"expr": "device.metadata.nope > 1"}}
    await publish(owner, tenant_id, {"type": "telemetry", "metric": 5}, failing, HOT)
    async with (
        broker_running(broker_settings(postgres_server)) as broker,
        RawClient(broker) as client,
    ):
        await client.sign_in(device)
        await measure(client, device, (0, 101))
        (row,) = await outbox(sql, tenant_id)
        assert row["payload"]["event_key"].startswith("t2:")
        assert await metric(broker, "iotlinker_trigger_errors_total") == 1


async def test_a_trigger_changed_while_no_broker_ran_has_forgotten_its_state(
    postgres_server: Settings,
    valkey_server: Settings,
    owner: Database,
    device: MadeDevice,
    tenant_id: UUID,
    sql: Sql,
) -> None:
    settings = broker_settings(postgres_server)
    workflow = await publish(owner, tenant_id, HOT)
    async with broker_running(settings) as broker, RawClient(broker) as client:
        await client.sign_in(device)
        await measure(client, device, (0, 150))
    await publish(owner, tenant_id, HOT, workflow=workflow)
    async with broker_running(settings) as broker, RawClient(broker) as client:
        await client.sign_in(device)
        await measure(client, device, (1, 150))
        assert len(await outbox(sql, tenant_id)) == 1  # the same definition: still active
    changed = HOT | {"when": {"op": ">", "value": 120}}
    await publish(owner, tenant_id, changed, workflow=workflow)
    async with broker_running(settings) as broker, RawClient(broker) as client:
        await client.sign_in(device)
        await measure(client, device, (2, 150))
        assert len(await outbox(sql, tenant_id)) == 2
