"""Real servers, one of each a session; every test makes a tenant of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from redis.asyncio import Redis
from temporalio.client import Client

from core.db.migrate import upgrade
from core.db.roles import ensure_roles
from core.db.session import Database
from core.settings import Settings, load_settings
from core.temporal.client import connect
from tests.support.servers import free_port, running
from tests.support.tenants import make_tenant
from workers.stack.mlflow import mlflow
from workers.stack.postgres import postgres
from workers.stack.temporal import temporal
from workers.stack.valkey import valkey


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with free ports and a fresh home; nothing is started by this alone."""
    home: Path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "DATABASE_PORT",
            "VALKEY_PORT",
            "TEMPORAL_PORT",
            "TEMPORAL_UI_PORT",
            "MLFLOW_PORT",
            "API_PORT",
            "BROKER_PORT",
            "BROKER_METRICS_PORT",
        ):
            patch.setenv(f"IOTLINKER_{name}", str(free_port()))
        patch.setenv("IOTLINKER_HOME", str(home))
        patch.setenv("IOTLINKER_OUTBOUND_ALLOW_NETWORKS", "127.0.0.0/8")
        yield load_settings()


@pytest.fixture(scope="session")
def postgres_server(settings: Settings) -> Iterator[Settings]:
    """A migrated PostgreSQL."""
    with running(postgres(settings), settings):
        asyncio.run(ensure_roles(settings))
        upgrade(settings)
        yield settings


@pytest.fixture(scope="session")
def valkey_server(settings: Settings) -> Iterator[Settings]:
    """A Valkey."""
    with running(valkey(settings), settings):
        yield settings


@pytest.fixture(scope="session")
def temporal_server(settings: Settings) -> Iterator[Settings]:
    """A Temporal development server with the platform's search attributes."""
    with running(temporal(settings), settings):
        yield settings


@pytest.fixture(scope="session")
def mlflow_server(postgres_server: Settings) -> Iterator[Settings]:
    """An MLflow server on the same PostgreSQL."""
    with running(mlflow(postgres_server), postgres_server):
        yield postgres_server


@pytest.fixture
async def owner(postgres_server: Settings) -> AsyncIterator[Database]:
    """The database as the owner of the tables: sees every tenant."""
    database = Database.connect(postgres_server, "owner")
    yield database
    await database.close()


@pytest.fixture
async def worker_database(postgres_server: Settings) -> AsyncIterator[Database]:
    """The database as the workers see it."""
    database = Database.connect(postgres_server, "worker")
    yield database
    await database.close()


@pytest.fixture
async def api_database(postgres_server: Settings) -> AsyncIterator[Database]:
    """The database as the API sees it."""
    database = Database.connect(postgres_server, "api")
    yield database
    await database.close()


@pytest.fixture
async def tenant_id(owner: Database) -> UUID:
    """A new tenant."""
    return await make_tenant(owner)


@pytest.fixture
async def bus(valkey_server: Settings) -> AsyncIterator[Redis]:
    """A Valkey client."""
    async with Redis.from_url(
        valkey_server.valkey_url, socket_connect_timeout=5, socket_timeout=30
    ) as client:
        yield client


@pytest.fixture
async def temporal_client(temporal_server: Settings) -> Client:
    """A Temporal client with the platform's data converter."""
    return await connect(temporal_server)
