"""The broker's connections to PostgreSQL, as the role that ingests."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from core.db.repositories.ingest import Connection
from core.settings import Settings

OUTAGE: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a session that was ended in the middle of an operation
    asyncpg.PostgresError,
)
"""What a database that is down, restarting or overloaded raises."""

_ACQUIRE: Final = 10.0  # seconds


async def _keep(connection: Connection) -> None:
    """Take a connection back as it is; asyncpg has ended a transaction left open.

    The usual reset is one more question to the database for every batch and look-up. Nothing here
    changes a session: what is set or locked ends with its transaction.
    """


class IngestDatabase:
    """A pool that is opened on first use, so that the broker can start before PostgreSQL."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend a connection; each statement is a transaction of its own.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: It cannot be reached.
        """
        pool = self._pool or await self._open()
        async with pool.acquire(timeout=_ACQUIRE) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        """Lend a connection within a transaction."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            if self._pool is None:
                timeout = self._settings.database.statement_timeout
                self._pool = await asyncpg.create_pool(
                    self._settings.database_url("ingest"),
                    min_size=1,
                    max_size=self._settings.broker.flushers + 6,
                    timeout=10,
                    command_timeout=timeout + 5,
                    reset=_keep,
                    server_settings={
                        "application_name": "iotlinker-broker",
                        "statement_timeout": str(int(timeout * 1000)),
                    },
                )
            return self._pool

    async def close(self) -> None:
        """Close every connection, by force when the server does not answer."""
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(10):
                await self._pool.close()
        except OUTAGE:
            self._pool.terminate()
