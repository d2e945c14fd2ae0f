"""What only one ingest process does at a time: a lease is an advisory lock of PostgreSQL.

The lock is its connection's. Whoever writes on this connection cannot write after the lease is
gone, whatever they believe: that is what keeps a process which was taken for dead from mixing its
trigger states with those of the one that took over.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import structlog

from broker.database import OUTAGE, IngestDatabase
from core.db.repositories.external_broker import try_lease
from core.db.repositories.ingest import Connection
from core.settings import Settings

_log = structlog.get_logger(__name__)

_AGAIN: Final = 1.0  # seconds between tries to get a lease that another process has
_PROBE: Final = 5.0  # seconds between looks whether the connection is alive


class LeaseLostError(Exception):
    """The connection ended and the lease with it; everything that rested on it must end."""


class Lease(IngestDatabase):
    """A held lease: a database of one connection, which nobody can reopen."""

    def __init__(self, name: str, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.name = name
        self._connection = connection
        self._turn = asyncio.Lock()
        self._lost = asyncio.Event()
        connection.add_termination_listener(lambda _: self._lost.set())

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend the connection; each statement is a transaction of its own.

        Raises:
            LeaseLostError: It has ended.
        """
        async with self._turn:
            if self._connection.is_closed():
                raise LeaseLostError(self.name)
            yield self._connection

    async def watch(self) -> None:
        """Wait until the lease is lost.

        Raises:
            LeaseLostError: It is.
        """
        while True:
            try:
                async with asyncio.timeout(_PROBE):
                    await self._lost.wait()
            except TimeoutError:
                try:
                    async with self.connection() as connection:
                        await connection.execute("SELECT 1", timeout=_PROBE)
                except OUTAGE as error:
                    self._connection.terminate()
                    raise LeaseLostError(self.name) from error
            else:
                raise LeaseLostError(self.name)

    async def close(self) -> None:
        """Give it back."""
        try:
            await self._connection.close(timeout=5)
        except OUTAGE:
            self._connection.terminate()


async def obtain(settings: Settings, *names: str) -> Lease:
    """Wait for the first of these leases that is free."""
    complained = False
    while True:
        try:
            return await _first_free(settings, names)
        except OUTAGE as error:
            if not complained:
                _log.warning("a lease waits for the database", reason=repr(error))
                complained = True
        await asyncio.sleep(_AGAIN)


async def _first_free(settings: Settings, names: tuple[str, ...]) -> Lease:
    timeout = settings.database.statement_timeout
    options: Any = {
        "application_name": "iotlinker-ingest-lease",
        "statement_timeout": str(int(timeout * 1000)),
        # A machine that vanished must not keep its leases for the two hours of TCP's default.
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }
    connection = await asyncpg.connect(
        settings.database_url("ingest"),
        timeout=10,
        command_timeout=timeout + 5,
        server_settings=options,
    )
    try:
        while True:
            for name in names:
                if await try_lease(connection, name):
                    _log.info("lease taken", name=name)
                    return Lease(name, connection)
            await asyncio.sleep(_AGAIN)
    except BaseException:
        connection.terminate()
        raise
