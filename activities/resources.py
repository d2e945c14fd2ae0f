"""What activities work with; opened once by the worker process."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from redis.asyncio import Redis

from core import bus
from core.crypto import Vault
from core.db.session import Database
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    """Connections and keys shared by the activities of one worker process."""

    settings: Settings
    database: Database
    bus: Redis
    http: httpx.AsyncClient
    vault: Vault


class ActivityFamily(Protocol):
    """A class with the activities of one family, built from `Resources`."""

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        ...


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncGenerator[Resources]:
    """Open everything and close it at the end."""
    database = Database.connect(settings, "worker")
    valkey = bus.connect(settings)
    try:
        async with httpx.AsyncClient(
            timeout=settings.outbound.timeout,
            follow_redirects=False,  # a redirect could lead to a private address unchecked
            trust_env=False,
        ) as http:
            yield Resources(settings, database, valkey, http, Vault(settings.secrets.vault_key))
    finally:
        await valkey.aclose()
        await database.close()
