"""This process among the brokers: its sign of life, and the devices that others left behind."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.notifications import Notifier
from core.db.repositories.brokers import beat, forget_silent, leave, orphans_offline

_log = structlog.get_logger(__name__)

_PERIOD: Final = 5.0  # seconds between signs of life
SILENT: Final = 20.0
"""Seconds without a sign of life after which the others take a process for dead."""


class Instance:
    """A row in `broker_instances`.

    Attributes:
        id: Of this run.
        alone: No other broker is known to live.
    """

    def __init__(self, database: IngestDatabase, notifier: Notifier, metrics_port: int) -> None:
        self.id = uuid4()
        self.alone = True
        self._name = f"{socket.gethostname()}:{metrics_port}"
        self._database = database
        self._notifier = notifier
        self._since: float | None = None
        self._ended = False

    async def begin(self) -> None:
        """Take over the row of an earlier run; its devices are offline from now on.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: The database cannot be reached.
        """
        async with self._database.connection() as connection:
            self.alone = await beat(connection, self._name, self.id) <= 1
            await orphans_offline(connection)
        self._since = time.monotonic()

    async def run(self) -> None:
        """Give signs of life and look after the others', until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            if self._ended:
                return
            try:
                await self._beat()
            except OUTAGE as error:
                # All were silent while the database was down: nobody is to be taken for dead then.
                self._since = None
                _log.warning("the sign of life waits for the database", reason=repr(error))

    async def _beat(self) -> None:
        now = time.monotonic()
        async with self._database.connection() as connection:
            self.alone = await beat(connection, self._name, self.id) <= 1
            if self._since is None:
                self._since = now
            if now - self._since < SILENT or not await forget_silent(connection, SILENT):
                return
            gone = await orphans_offline(connection)
        _log.warning("a broker process is gone", devices=len(gone))
        for device_id, tenant_id in gone:
            self._notifier.presence(tenant_id, device_id, online=False, at=datetime.now(UTC))

    async def end(self) -> None:
        """Delete the row.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: The database cannot be reached.
        """
        self._ended = True
        async with self._database.connection() as connection:
            await leave(connection, self.id)
