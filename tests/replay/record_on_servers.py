"""Records anew what needs servers: `python -m tests.replay.record_on_servers [name…]`.

See `tests.replay.record` for when. PostgreSQL, Valkey, MLflow and Temporal are started for it.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis
from temporalio.client import Client, WorkflowContinuedAsNewError, WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from activities.provisioning import ProvisioningActivities
from activities.resources import Resources
from activities.storage import StorageActivities
from activities.telemetry_import import ImportActivities
from activities.training import TrainingActivities
from activities.webhooks import WebhookActivities
from benchmarks.support.stack import data_servers
from core import webhooks
from core.db.session import Database
from core.settings import Settings
from core.temporal.names import TaskQueue
from tests.replay.on_servers import SCENARIOS, Stage
from tests.replay.record import HISTORIES, without_folders
from tests.support.durable import opened_resources, working
from tests.support.provisioning import Plant
from tests.support.receiver import receiving
from tests.support.servers import running
from tests.support.tenants import make_profile, make_tenant
from workers.registry import capabilities
from workers.stack.mlflow import mlflow
from workers.stack.temporal import temporal


@asynccontextmanager
async def _staged(settings: Settings) -> AsyncGenerator[Stage]:
    """Payloads are not encrypted: the keys are generated for each installation."""
    secret = webhooks.new_secret()
    owner, worker = Database.connect(settings, "owner"), Database.connect(settings, "worker")
    environment = await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter,
        test_server_existing_path=str(Path(sys.executable).parent / "temporal-test-server"),
    )
    client = await Client.connect(settings.temporal_address, data_converter=pydantic_data_converter)
    try:
        async with (
            environment,
            Redis.from_url(settings.valkey_url) as bus,
            opened_resources(settings, worker, bus) as resources,
            receiving(secret) as receiver,
            _working(environment.client, resources),
            _working(client, resources),
        ):
            tenant_id = await make_tenant(owner)
            profile_id = await make_profile(owner, tenant_id)
            skipping = Plant(environment, owner, bus, tenant_id, profile_id)
            real = WorkflowEnvironment.from_client(client)
            yield Stage(
                settings,
                skipping,
                Plant(real, owner, bus, tenant_id, profile_id),
                worker,
                receiver,
            )
    finally:
        await owner.close()
        await worker.close()


@asynccontextmanager
async def _working(client: Client, resources: Resources) -> AsyncGenerator[None]:
    families = {
        TaskQueue.AUTOMATION: [ProvisioningActivities(resources)],
        TaskQueue.OUTBOUND: [WebhookActivities(resources)],
        TaskQueue.MAINTENANCE: [ImportActivities(resources), StorageActivities(resources)],
        TaskQueue.TRAINING: [TrainingActivities(resources)],
    }
    async with working(client, capabilities(TaskQueue.AUTOMATION).workflows, families):
        yield


async def _record(settings: Settings, names: Sequence[str]) -> None:
    async with _staged(settings) as stage:
        for name in names or SCENARIOS:
            handle = await SCENARIOS[name](stage)
            # To fail, or to go on in another run, is what some scenarios are for.
            with suppress(WorkflowFailureError, WorkflowContinuedAsNewError):
                await handle.result(follow_runs=False)
            history = (await handle.fetch_history()).to_json()
            file = HISTORIES / f"{name}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(without_folders(history) + "\n")


def _main(names: Sequence[str]) -> None:
    os.environ["IOTLINKER_OUTBOUND_ALLOW_NETWORKS"] = "127.0.0.0/8"
    with data_servers() as settings, ExitStack() as stack:
        for service in (temporal(settings), mlflow(settings)):
            stack.enter_context(running(service, settings))
        asyncio.run(_record(settings, names))


if __name__ == "__main__":
    _main(sys.argv[1:])
