"""Automation runs a second, against the same written by hand as a Temporal workflow.

Both do the same on the same servers: check a condition, raise an alarm, deliver a signed webhook to
a receiver on this machine, and store the trace and outcome. A run counts when its outcome is
stored and its webhook has arrived. The platform's runs take their whole way, from the outbox by
the relay; the hand-written ones are started at once by a client that has nothing else to do.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import uvloop
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.resources import Resources, open_resources
from benchmarks.support.fleet import make_fleet
from benchmarks.support.handwritten import QUEUE, HandWritten, HandWrittenInput
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, median
from core import bus
from core.crypto import Vault
from core.db.repositories import automation as automations
from core.db.repositories import outbox, webhooks
from core.db.repositories.automation import NewRun
from core.db.session import Database
from core.db.tables import Webhook, Workflow, WorkflowVersion
from core.settings import Settings
from core.temporal import names
from core.temporal.client import connect
from core.temporal.names import TaskQueue
from core.temporal.outbox import StartRun
from core.webhooks import new_secret, seal_secret
from tests.support.receiver import Receiver, receiving
from tests.support.servers import running
from tests.support.waiting import eventually
from workers.outbox_relay import OutboxRelay
from workers.registry import capabilities
from workers.stack.temporal import temporal
from workers.worker import build_worker, workflow_runner

_PARALLEL = 16
"""Starts under way at the same time, on both sides."""
_DEVICES = 100
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What both sides work with."""

    settings: Settings
    database: Database
    resources: Resources
    client: Client
    receiver: Receiver
    tenant_id: UUID
    webhook_id: UUID
    workflow_id: UUID
    devices: list[UUID]

    def trigger(self, device_id: UUID) -> dict[str, Any]:
        """Return what fired."""
        return {
            "type": "telemetry",
            "device_id": str(device_id),
            "time": "2026-01-02T03:04:05Z",
            "metric": "temperature",
            "value": 1421.5,
            "values": {"temperature": 1421.5},
        }


def definition(webhook_id: UUID) -> dict[str, Any]:
    """Return the automation of three steps."""
    return {
        "name": "Overheating",
        "triggers": [{"type": "manual"}],
        "actions": [
            {
                "id": "gate",
                "type": "if",
                "condition": "trigger.value > 1420",
                "then": [
                    {
                        "id": "alarm",
                        "type": "alarm",
                        "with": {"name": "hot", "message": "${trigger.metric} ${trigger.value}"},
                    },
                    {
                        "id": "tell",
                        "type": "webhook",
                        "with": {
                            "webhook": str(webhook_id),
                            "event_type": "engine.hot",
                            "data": {"alarm": "${steps.alarm.alarm_id}"},
                        },
                    },
                ],
            }
        ],
    }


def _runner_by_hand() -> SandboxedWorkflowRunner:
    """Return the sandbox of the platform's worker, which shares its workflow files."""
    runner = workflow_runner()
    return SandboxedWorkflowRunner(
        restrictions=runner.restrictions.with_passthrough_modules("benchmarks")
    )


async def _make(
    settings: Settings, receiver: Receiver, secret: str
) -> tuple[UUID, UUID, UUID, list[UUID]]:
    fleet = await make_fleet(settings, _DEVICES)
    owner = Database.connect(settings, "owner")
    webhook_id = uuid4()
    try:
        async with owner.transaction(fleet.tenant_id) as session:
            workflow = Workflow(tenant_id=fleet.tenant_id, name="Runs", current_version=1)
            session.add(workflow)
            await session.flush()
            session.add(
                WorkflowVersion(
                    workflow_id=workflow.id,
                    version=1,
                    tenant_id=fleet.tenant_id,
                    definition=definition(webhook_id),
                )
            )
            sealed = seal_secret(Vault(settings.secrets.vault_key), webhook_id, secret)
            await webhooks.create(
                session,
                Webhook(
                    id=webhook_id,
                    tenant_id=fleet.tenant_id,
                    name="receiver",
                    url=receiver.url(),
                    secret=sealed,
                ),
            )
            devices = [device_id for device_id, _ in fleet.devices]
            return fleet.tenant_id, webhook_id, workflow.id, devices
    finally:
        await owner.close()


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[Bench]:
    secret = new_secret()
    async with receiving(secret) as receiver, open_resources(settings) as resources:
        made = await _make(settings, receiver, secret)
        client = await connect(settings)
        database = Database.connect(settings, "worker")
        able = capabilities(TaskQueue.AUTOMATION)
        by_hand = Worker(
            client,
            task_queue=QUEUE,
            workflows=[HandWritten],
            activities=able.activities(resources),
            workflow_runner=_runner_by_hand(),
        )
        relay = OutboxRelay(database, resources.bus, client, parallel=_PARALLEL)
        async with (
            build_worker(client, TaskQueue.AUTOMATION, resources),
            build_worker(client, TaskQueue.OUTBOUND, resources),
            by_hand,
            asyncio.TaskGroup() as tasks,
        ):
            relaying = tasks.create_task(relay.run())
            yield Bench(settings, database, resources, client, receiver, *made)
            relaying.cancel()
        await database.close()


async def automation(bench: Bench, count: int) -> None:
    """Queue runs as a fired trigger does."""
    async with bench.database.transaction(bench.tenant_id) as session:
        for number in range(count):
            device_id = bench.devices[number % _DEVICES]
            await outbox.enqueue(
                session,
                bench.tenant_id,
                StartRun(
                    workflow_id=str(bench.workflow_id),
                    version=1,
                    event_key=f"t0:{uuid4()}",
                    trigger=bench.trigger(device_id),
                    device_id=str(device_id),
                ),
            )
    await bench.resources.bus.publish(bus.OUTBOX, "")


async def by_hand(bench: Bench, count: int) -> None:
    """Start the hand-written workflows, with an execution each for their outcome."""
    slots = asyncio.Semaphore(_PARALLEL)

    async def start(device_id: UUID) -> None:
        async with slots:
            key = f"t0:{uuid4()}"
            temporal_id = names.run_id(bench.tenant_id, bench.workflow_id, key)
            run = NewRun(
                id=names.stable_uuid(temporal_id),
                workflow_id=bench.workflow_id,
                version=1,
                event_key=key,
                temporal_id=temporal_id,
                trigger=bench.trigger(device_id),
                device_id=device_id,
                dry_run=False,
            )
            async with bench.database.transaction(bench.tenant_id) as session:
                await automations.prepare_run(session, bench.tenant_id, run)
            await bench.client.start_workflow(
                HandWritten.run,
                HandWrittenInput(
                    tenant_id=bench.tenant_id,
                    workflow_id=bench.workflow_id,
                    execution_id=run.id,
                    device_id=device_id,
                    webhook_id=bench.webhook_id,
                    trigger=bench.trigger(device_id),
                ),
                id=temporal_id,
                task_queue=QUEUE,
                request_eager_start=True,
            )

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(start(bench.devices[number % _DEVICES]))


async def completed(bench: Bench) -> int:
    """Return how many runs have completed."""
    async with bench.database.transaction(bench.tenant_id) as session:
        return await automations.count_runs(session, bench.tenant_id, "completed")


async def measure(bench: Bench, side: Callable[[Bench, int], Awaitable[None]], count: int) -> float:
    """Return the runs a second of one side."""
    arrived = len(bench.receiver.received)
    before = await completed(bench)
    started = time.perf_counter()
    await side(bench, count)

    async def done() -> bool:
        if len(bench.receiver.received) < arrived + count:
            return False
        return await completed(bench) >= before + count

    await eventually(done, timeout=_PATIENCE, interval=0.01)
    return count / (time.perf_counter() - started)


async def _run(settings: Settings, count: int, rounds: int) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    theirs: list[float] = []
    async with _opened(settings) as bench:
        for side in (automation, by_hand):
            await measure(bench, side, count // 4)  # caches, connections, first imports
        for number in range(rounds):
            # Who goes first alternates: what the first leaves behind must not favour one side.
            pair = [(automation, ours), (by_hand, theirs)]
            for side, figures in pair if number % 2 == 0 else reversed(pair):
                figures.append(await measure(bench, side, count))
            print(f"round {number + 1}: {ours[-1]:.1f} automation, {theirs[-1]:.1f} by hand")
        assert all(received.verified for received in bench.receiver.received)
    return ours, theirs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="runs a round and side")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["IOTLINKER_OUTBOUND_ALLOW_NETWORKS"] = "127.0.0.0/8"
    with data_servers() as settings, running(temporal(settings), settings):
        ours, theirs = uvloop.run(_run(settings, arguments.count, arguments.rounds))
    ratio = median([a / b for a, b in zip(ours, theirs, strict=True)])
    report("runs", median(ours), "runs/s", median(theirs), ratio)


if __name__ == "__main__":
    main()
