"""Temporal for tests: a server that skips time, and workers in this process."""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.resources import ActivityFamily, Resources
from core.crypto import Vault
from core.db.session import Database
from core.settings import Settings
from core.temporal.client import data_converter
from core.temporal.names import TaskQueue
from workers.worker import workflow_runner


@asynccontextmanager
async def skipping_time(settings: Settings) -> AsyncGenerator[WorkflowEnvironment]:
    """Run Temporal's test server, whose clock runs ahead while workflows only wait."""
    environment = await WorkflowEnvironment.start_time_skipping(
        data_converter=data_converter(settings),
        test_server_existing_path=str(Path(sys.executable).parent / "temporal-test-server"),
    )
    async with environment:
        yield environment


@asynccontextmanager
async def opened_resources(
    settings: Settings, database: Database, valkey: Redis
) -> AsyncGenerator[Resources]:
    """Open what activities work with, on the session's servers."""
    async with httpx.AsyncClient(
        timeout=settings.outbound.timeout, follow_redirects=False, trust_env=False
    ) as http:
        yield Resources(settings, database, valkey, http, Vault(settings.secrets.vault_key))


@asynccontextmanager
async def working(
    client: Client,
    workflows: Sequence[type],
    families: dict[TaskQueue, Sequence[ActivityFamily]],
    **options: Any,
) -> AsyncGenerator[None]:
    """Run a worker per task queue until the end of the block; workflows are automation's.

    They run in the strict sandbox unless the options name another.
    """
    options.setdefault("workflow_runner", workflow_runner(strict=True))
    async with AsyncExitStack() as stack:
        for queue in families.keys() | {TaskQueue.AUTOMATION}:
            activities = [run for family in families.get(queue, ()) for run in family.activities()]
            await stack.enter_async_context(
                Worker(
                    client,
                    task_queue=queue,
                    workflows=workflows if queue is TaskQueue.AUTOMATION else (),
                    activities=activities,
                    **options,
                )
            )
        yield
