"""A server that lets anybody do anything, for the behaviour of MQTT itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from core.crypto import device_key_digest
from core.db.repositories.ingest_devices import devices_of_keys
from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings
from tests.broker.mqtt.client import Client
from tests.support.mqtt import AllowAll
from tests.support.tenants import MadeDevice

Enter = Callable[..., Awaitable[Client]]


@pytest.fixture
async def anybody(device: MadeDevice, sql: "asyncpg.Connection[asyncpg.Record]") -> AllowAll:
    """The authorizer of a server that lets anybody in."""
    digest = device_key_digest(device.key)
    return AllowAll((await devices_of_keys(sql, [digest]))[digest])


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
