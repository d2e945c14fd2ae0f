"""Looks at every other part of the platform, all at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from api.services import Services

_TIMEOUT = 3.0  # seconds for one part

Probe = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """How one part is.

    Attributes:
        needed: Without it this process cannot do its job.
        error: Why it does not answer; None when it does.
    """

    needed: bool
    error: str | None


async def check(services: Services) -> dict[str, Part]:
    """Ask every part whether it answers."""

    async def database() -> None:
        async with services.database.transaction(None) as session:
            await session.execute(sa.text("SELECT 1"))

    async def http(url: str) -> None:
        (await services.http.get(url, timeout=_TIMEOUT)).raise_for_status()

    settings = services.settings
    broker = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
    probes: dict[str, tuple[bool, Probe]] = {
        "database": (True, database),
        "valkey": (True, lambda: services.bus.ping()),
        "temporal": (True, services.temporal.check_health),
        "broker": (True, lambda: http(broker)),
        "mlflow": (False, lambda: http(f"{settings.mlflow_url}/health")),
    }
    async with asyncio.TaskGroup() as tasks:
        running = {
            name: (needed, tasks.create_task(_probe(probe)))
            for name, (needed, probe) in probes.items()
        }
    return {name: Part(needed, task.result()) for name, (needed, task) in running.items()}


async def _probe(probe: Probe) -> str | None:
    try:
        async with asyncio.timeout(_TIMEOUT):
            await probe()
    except Exception as error:
        # The kind alone: messages of drivers hold addresses.
        return type(error).__name__
    return None
