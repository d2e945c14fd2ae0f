"""A running broker in this process, and devices to connect to it."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiomqtt
import asyncpg
import httpx
import pytest
from sqlmodel import select

from broker.main import run
from broker.mqtt.auth import Authorizer
from core.db.session import Database
from core.db.tables import DeviceProfile
from core.settings import Settings
from tests.support.servers import free_port
from tests.support.tenants import MadeDevice, make_device, make_profile
from tests.support.waiting import eventually

StartBroker = Callable[..., Any]


@asynccontextmanager
async def broker_running(
    settings: Settings, authorizer: Authorizer | None = None
) -> AsyncGenerator[Settings]:
    """Run a broker until the end of the block; it stops in order."""
    task = asyncio.create_task(run(settings, authorizer))

    async def ready() -> bool:
        if task.done():
            await task
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            try:
                answer = await client.get(
                    f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
                )
            except httpx.TransportError:
                return False
            return answer.status_code == 200

    try:
        await eventually(ready, timeout=30)
        yield settings
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=20)


def broker_settings(settings: Settings, **changes: Any) -> Settings:
    """Settings with ports of their own and these changes to the broker's."""
    ports = {"port": free_port(), "metrics_port": free_port()}
    return dataclasses.replace(settings, broker=settings.broker.model_copy(update=ports | changes))


async def metric(settings: Settings, name: str) -> float:
    """Return one of the broker's metrics, the sum of its labels."""
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        answer = await client.get(f"http://127.0.0.1:{settings.broker.metrics_port}/metrics")
    total = 0.0
    for line in answer.raise_for_status().text.splitlines():
        if line.startswith((f"{name} ", f"{name}{{")):
            total += float(line.rsplit(" ", 1)[1])
    return total


@pytest.fixture
async def broker(postgres_server: Settings, valkey_server: Settings) -> AsyncIterator[Settings]:
    """A running broker."""
    async with broker_running(broker_settings(postgres_server)) as settings:
        yield settings


@pytest.fixture
async def sql(postgres_server: Settings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """PostgreSQL as the administrator, who sees everything."""
    connection = await asyncpg.connect(postgres_server.admin_database_url, timeout=10)
    yield connection
    await connection.close(timeout=10)


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    """An active device of the profile `engine`."""
    profile = await make_profile(owner, tenant_id, "engine")
    return await make_device(owner, tenant_id, profile)


@pytest.fixture
def connect() -> Callable[..., aiomqtt.Client]:
    """Returns a client that signs in as a device."""

    def client(settings: Settings, device: MadeDevice, **more: Any) -> aiomqtt.Client:
        login = {"username": str(device.id), "password": device.key, "timeout": 10}
        return aiomqtt.Client("127.0.0.1", settings.broker.port, **(login | more))

    return client


Connect = Callable[..., aiomqtt.Client]
Wait = Callable[[], Awaitable[bool]]


@pytest.fixture
def another(owner: Database, tenant_id: UUID, device: MadeDevice) -> Callable[[], Any]:
    """Returns one more device of the same tenant and profile as `device`."""

    async def make(**more: Any) -> MadeDevice:
        async with owner.transaction(tenant_id) as session:
            profile = await session.scalar(
                select(DeviceProfile.id).where(DeviceProfile.tenant_id == tenant_id)
            )
        assert profile is not None
        return await make_device(owner, tenant_id, profile, **more)

    return make
