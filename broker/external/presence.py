"""Who is online behind another broker: whoever sent something lately."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.external.fleet import Fleet
from broker.notifications import Notifier
from core.db.repositories.external_broker import mark_silent

_log = structlog.get_logger(__name__)

_SWEEP: Final = 10.0  # seconds


class Silence:
    """Marks devices offline that nobody has heard of for a while.

    Their coming is `Presence`'s, by their seats: it also notes every 30 s when each was heard,
    which is how one ingest process knows that another has heard of a device.
    """

    def __init__(
        self, database: IngestDatabase, fleet: Fleet, notifier: Notifier, seconds: float
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._notifier = notifier
        self._seconds = seconds

    async def run(self) -> None:
        """Look once a while, until cancelled; the first time at everything.

        Processes that were killed remember nothing of their devices.
        """
        everything = True
        while True:
            await asyncio.sleep(min(_SWEEP, self._seconds / 2))
            gone = [device.id for device in self._fleet.silent(self._seconds)]
            if not gone and not everything:
                continue
            try:
                async with self._database.connection() as connection:
                    silent = await mark_silent(
                        connection, None if everything else gone, self._seconds
                    )
            except OUTAGE as error:
                _log.warning("presence waits for the database", reason=repr(error))
                everything = True
                continue
            everything = False
            for device_id, tenant_id in silent:
                self._notifier.presence(tenant_id, device_id, online=False, at=datetime.now(UTC))
