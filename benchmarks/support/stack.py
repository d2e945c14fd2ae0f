"""Servers for a benchmark: a home of its own, free ports, everything ended at the end."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from core.db.migrate import upgrade
from core.db.roles import ensure_roles
from core.settings import Settings, load_settings
from tests.support.servers import free_port, running
from workers.stack.postgres import postgres
from workers.stack.service import Service
from workers.stack.valkey import valkey

_PORTS = (
    "DATABASE_PORT",
    "VALKEY_PORT",
    "TEMPORAL_PORT",
    "TEMPORAL_UI_PORT",
    "MLFLOW_PORT",
    "API_PORT",
    "BROKER_PORT",
    "BROKER_METRICS_PORT",
)


def own_ports(home: Path) -> None:
    """Set the environment to a home and free ports, for this process and its children."""
    for name in _PORTS:
        os.environ[f"IOTLINKER_{name}"] = str(free_port())
    os.environ["IOTLINKER_HOME"] = str(home)


@contextmanager
def data_servers() -> Generator[Settings]:
    """Run a migrated PostgreSQL and a Valkey; yields the settings, also for child processes."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iotlinker-bench-")))
        own_ports(home)
        settings = load_settings()
        stack.enter_context(running(postgres(settings), settings))
        stack.enter_context(running(valkey(settings), settings))
        asyncio.run(ensure_roles(settings))
        upgrade(settings)
        yield settings


@contextmanager
def process(settings: Settings, module: str, health: str, *arguments: str) -> Generator[int]:
    """Run one of our own processes until the end of the block.

    Args:
        settings: Its home's settings.
        module: What `python -m` runs.
        health: Address that answers 200 when it is ready.
        arguments: What it is called with.
    """

    async def probe() -> None:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            (await client.get(health)).raise_for_status()

    command = (sys.executable, "-m", module, *arguments)
    service = Service(name=module, command=command, probe=probe)
    with running(service, settings) as pid:
        yield pid


def median(numbers: Sequence[float]) -> float:
    """Return the middle one; the upper of two."""
    return sorted(numbers)[len(numbers) // 2]


def percentile(numbers: Sequence[float], share: float) -> float:
    """Return the number that `share` of them are not above."""
    return sorted(numbers)[min(len(numbers) - 1, int(len(numbers) * share))]
