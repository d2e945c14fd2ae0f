"""Which parts this installation has: embedded servers unless the settings name an address."""

import asyncio
import math
from collections.abc import Sequence

import asyncpg
import httpx
from redis.asyncio import Redis

from core.db.roles import ensure_roles
from core.errors import ConfigurationError
from core.settings import Settings
from core.temporal.client import connect
from core.temporal.names import TaskQueue
from workers.stack.mlflow import mlflow
from workers.stack.own import api, brokers, worker
from workers.stack.postgres import postgres
from workers.stack.service import Part, Service, Step
from workers.stack.temporal import temporal
from workers.stack.valkey import valkey

_EXTERNAL_RETRY = 30.0
"""Seconds to wait for a server that others run."""


def plan(settings: Settings) -> tuple[Part, ...]:
    """Return the parts in an order in which each comes after those it needs.

    Raises:
        ConfigurationError: Two services are set to the same port.
    """
    parts = (
        _external_postgres(settings) if settings.database.url else postgres(settings),
        _external_valkey(settings) if settings.valkey.url else valkey(settings),
        _external_temporal(settings) if settings.temporal.address else temporal(settings),
        Step("roles", lambda: ensure_roles(settings), needs=("postgres",)),
        Step("schema", lambda: _migrate(settings), needs=("roles",)),
        _external_mlflow(settings) if settings.mlflow.url else mlflow(settings),
        api(settings),
        *brokers(settings),
        *(worker(settings, queue) for queue in TaskQueue),
    )
    _refuse_shared_ports(parts)
    return parts


async def _migrate(settings: Settings) -> None:
    # Imported here: Alembic loads while PostgreSQL comes up, in a thread of its own.
    def migrate() -> None:
        from core.db.migrate import upgrade

        upgrade(settings)

    await asyncio.to_thread(migrate)


def _external_postgres(settings: Settings) -> Step:
    async def reach() -> None:
        connection = await asyncpg.connect(settings.admin_database_url, timeout=5)
        await connection.close(timeout=5)

    return Step("postgres", reach, retry=_EXTERNAL_RETRY)


def _external_valkey(settings: Settings) -> Step:
    async def reach() -> None:
        async with Redis.from_url(
            settings.valkey_url, socket_connect_timeout=5, socket_timeout=5
        ) as client:
            await client.ping()

    return Step("valkey", reach, retry=_EXTERNAL_RETRY)


def _external_temporal(settings: Settings) -> Step:
    async def reach() -> None:
        await connect(settings)

    return Step("temporal", reach, retry=_EXTERNAL_RETRY)


def _external_mlflow(settings: Settings) -> Step:
    async def reach() -> None:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            (await client.get(f"{settings.mlflow_url}/health")).raise_for_status()

    return Step("mlflow", reach, retry=math.inf, awaited=False)


def _refuse_shared_ports(parts: Sequence[Part]) -> None:
    taken: dict[int, str] = {}
    for part in parts:
        for port in part.ports if isinstance(part, Service) else ():
            if port.number in taken:
                raise ConfigurationError(
                    f"{taken[port.number]} and {port.setting} are both set to {port.number}; "
                    "give each a port of its own"
                )
            taken[port.number] = port.setting
