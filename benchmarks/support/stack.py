"""Servers for a benchmark: a home of its own, free ports, everything ended at the end."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from core.db.migrate import upgrade
from core.db.roles import ensure_roles
from core.settings import Settings, load_settings
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
_START = 90.0  # seconds


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def data_servers() -> Generator[Settings]:
    """Run a migrated PostgreSQL and a Valkey; yields the settings, also for child processes."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iotlinker-bench-")))
        for name in _PORTS:
            os.environ[f"IOTLINKER_{name}"] = str(free_port())
        os.environ["IOTLINKER_HOME"] = str(home)
        settings = load_settings()
        stack.enter_context(_running(postgres(settings), settings))
        stack.enter_context(_running(valkey(settings), settings))
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
    with _running(service, settings) as pid:
        yield pid


@contextmanager
def _running(service: Service, settings: Settings) -> Generator[int]:
    if service.prepare is not None:
        service.prepare()
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / f"{service.name}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            service.command,
            env=os.environ | service.environment,
            user=service.user,
            group=service.user,
            extra_groups=[] if service.user else None,
            cwd=service.working_directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        asyncio.run(_ready(service, child, log.read_text))
        yield child.pid
    finally:
        child.send_signal(service.stop_signal)
        try:
            child.wait(service.stop_timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)


async def _ready(
    service: Service, child: "subprocess.Popen[bytes]", log: Callable[[], str]
) -> None:
    deadline = time.monotonic() + _START
    while True:
        if child.poll() is not None:
            raise RuntimeError(f"{service.name} ended: {log()[-3000:]}")
        try:
            await service.probe()
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return


def median(numbers: Sequence[float]) -> float:
    """Return the middle one; the upper of two."""
    return sorted(numbers)[len(numbers) // 2]
