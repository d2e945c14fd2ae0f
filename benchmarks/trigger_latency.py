"""From a message in to the first step of the automation it fires, on an idle platform; p95.

One device sends a message that fires its automation; the next follows when that run is over. The
first step's start is what its activity wrote into the run's trace. The baseline leaves broker,
database commit and outbox out: the same automation, started directly in Temporal, in turn with the
other, on the same worker and server.
"""

import argparse
import asyncio
import struct
import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import msgspec
import uvloop
from sqlmodel import col, select

from benchmarks.support.fleet import make_fleet
from benchmarks.support.load import publish, sign_in
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, median, percentile, process
from core.db.session import Database
from core.db.tables import Workflow, WorkflowExecution, WorkflowStepRun, WorkflowVersion
from core.settings import Settings
from core.temporal.client import connect
from core.temporal.names import TaskQueue
from core.temporal.outbox import StartRun
from tests.support.servers import running
from tests.support.waiting import eventually
from workers.run_starter import RunStarter
from workers.stack.own import worker
from workers.stack.temporal import temporal

METRIC = "temperature"
DEFINITION = {
    "name": "Hot",
    "triggers": [
        {
            "type": "telemetry",
            "device_type": "engine",
            "metric": METRIC,
            "when": {"op": ">", "value": 5000},
        }
    ],
    "actions": [{"id": "alarm", "type": "alarm", "with": {"name": "hot"}}],
}


@dataclass(frozen=True, slots=True)
class Bench:
    """The automation, and who watches its runs."""

    settings: Settings
    database: Database
    tenant_id: UUID
    workflow_id: UUID
    device: tuple[UUID, str]

    async def first_step(self, seen: set[UUID]) -> datetime:
        """Wait for a run that was not seen yet to end; return when its first step started."""

        async def ended() -> UUID | None:
            async with self.database.transaction(self.tenant_id) as session:
                done = await session.scalars(
                    select(WorkflowExecution.id).where(
                        col(WorkflowExecution.workflow_id) == self.workflow_id,
                        col(WorkflowExecution.status) == "completed",
                    )
                )
                return next((run for run in done if run not in seen), None)

        run = await eventually(ended, timeout=30, interval=0.005)
        assert run is not None
        seen.add(run)
        async with self.database.transaction(self.tenant_id) as session:
            started = await session.scalar(
                select(WorkflowStepRun.started_at).where(
                    col(WorkflowStepRun.execution_id) == run,
                    col(WorkflowStepRun.path) == "alarm",
                )
            )
        assert started is not None
        return started


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60, help="of each side")
    options = parser.parse_args()
    with data_servers() as settings, running(temporal(settings), settings):
        bench = asyncio.run(_make(settings))
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with (
            process(settings, "broker.main", health),
            running(worker(settings, TaskQueue.AUTOMATION), settings),
        ):
            ours, direct = uvloop.run(_measure(bench, options.runs))
    p95, least = percentile(ours, 0.95) * 1e3, percentile(direct, 0.95) * 1e3
    report(
        "trigger_latency",
        p95,
        "ms (p95)",
        least,
        median([a / b for a, b in zip(ours, direct, strict=True)]),
        p50_ms=percentile(ours, 0.5) * 1e3,
        p99_ms=percentile(ours, 0.99) * 1e3,
        baseline_p50_ms=percentile(direct, 0.5) * 1e3,
    )


async def _make(settings: Settings) -> Bench:
    fleet = await make_fleet(settings, 1)
    owner = Database.connect(settings, "owner")
    try:
        async with owner.transaction(fleet.tenant_id) as session:
            automation = Workflow(tenant_id=fleet.tenant_id, name="Hot", current_version=1)
            session.add(automation)
            await session.flush()
            session.add(
                WorkflowVersion(
                    workflow_id=automation.id,
                    version=1,
                    tenant_id=fleet.tenant_id,
                    definition=DEFINITION,
                )
            )
            workflow_id = automation.id
    finally:
        await owner.close()
    database = Database.connect(settings, "worker")
    return Bench(settings, database, fleet.tenant_id, workflow_id, fleet.devices[0])


async def _measure(bench: Bench, runs: int) -> tuple[list[float], list[float]]:
    mqtt = bench.settings.broker
    device_id, key = bench.device
    starter = RunStarter(bench.database, await connect(bench.settings))
    connection = await asyncio.to_thread(sign_in, mqtt.host, mqtt.port, device_id, key)
    connection.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=connection)
    numbers = iter(range(1, 65536))

    async def send(value: float) -> None:
        number = next(numbers)
        payload = msgspec.json.encode({"values": {METRIC: value}})
        writer.write(publish(device_id, number, payload))
        async with asyncio.timeout(10):
            answer = await reader.readexactly(4)
        if answer != b"\x40\x02" + struct.pack(">H", number):
            raise RuntimeError(f"not acknowledged: {answer.hex()}")

    ours: list[float] = []
    direct: list[float] = []
    seen: set[UUID] = set()
    for number in range(runs + 5):
        at = time.time()
        await send(6000)
        through = (await bench.first_step(seen)).timestamp() - at
        await send(0)  # arms the trigger again
        trigger = {"type": "manual"}
        at = time.time()
        wanted = StartRun(
            workflow_id=str(bench.workflow_id),
            version=1,
            event_key=f"direct:{uuid4()}",
            trigger=trigger,
            device_id=str(device_id),
        )
        await starter.start(bench.tenant_id, wanted)
        least = (await bench.first_step(seen)).timestamp() - at
        if number >= 5:  # caches, connections, first imports
            ours.append(through)
            direct.append(least)
    writer.close()
    await bench.database.close()
    return ours, direct


if __name__ == "__main__":
    main()
