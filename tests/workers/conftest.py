"""Workers and relays in this process and in others."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from core.db.session import Database
from core.settings import Settings
from workers.outbox_relay import OutboxRelay

StartWorker = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
async def relay(worker_database: Database, bus: Redis, temporal_client: Client) -> OutboxRelay:
    """A relay, not running: tests make it look."""
    return OutboxRelay(worker_database, bus, temporal_client)


@pytest.fixture
def start_worker(
    temporal_server: Settings, postgres_server: Settings, valkey_server: Settings, tmp_path: Path
) -> Iterator[StartWorker]:
    """Starts worker processes of the named queues; those that are left are killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*queues: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.run_worker", *queues],
                env=os.environ | {"IOTLINKER_HOME": str(temporal_server.home)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)
