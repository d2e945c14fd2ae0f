"""A server that lets anybody do anything, for the behaviour of MQTT itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.db.repositories.ingest_devices import DeviceRow
from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings
from tests.broker.mqtt.client import Client
from tests.support.mqtt import AllowAll
from tests.support.tenants import MadeDevice

Enter = Callable[..., Awaitable[Client]]


@pytest.fixture
def anybody(device: MadeDevice, tenant_id: UUID) -> AllowAll:
    """The authorizer of a server that lets anybody in."""
    return AllowAll(
        DeviceRow(
            uuid4(),
            device.id,
            tenant_id,
            "any",
            "engine",
            "active",
            True,
            "{}",
            None,
            profile_id=uuid4(),
            site=None,
            tags=[],
        )
    )


@pytest.fixture
async def open_broker(
    postgres_server: Settings, valkey_server: Settings, anybody: AllowAll
) -> AsyncIterator[Settings]:
    """A server that lets anybody in."""
    async with broker_running(broker_settings(postgres_server), anybody) as settings:
        yield settings


@pytest.fixture
async def enter(open_broker: Settings) -> AsyncIterator[Enter]:
    """Returns a connected client by its id; what is left at the end is closed."""
    async with AsyncExitStack() as stack:

        async def client(name: str, **more: Any) -> Client:
            made = await stack.enter_async_context(Client(open_broker))
            await made.connect(name, **more)
            return made

        yield client
        await asyncio.sleep(0)
