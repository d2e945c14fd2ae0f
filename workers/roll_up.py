"""Keeps the roll-ups up to date: behind the clock, and again where rows came late."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from core.db.repositories import rollups
from core.db.session import Database

_log = structlog.get_logger(__name__)

PERIOD: Final = 10.0
"""Seconds between passes when nothing is left to do."""
LONGEST: Final = timedelta(minutes=10)
"""Time that one transaction rolls up; after an outage it takes several."""
LONGEST_STATEMENT: Final = 600.0
"""Seconds."""
NOTES: Final = 500
"""Notes of late rows that one transaction takes up."""


class RollUp:
    """The roll-up of one process; of several, one at a time works and the others look on.

    Args:
        database: As the owner of the tables: it rolls up the devices of all tenants at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """Roll up until cancelled. What fails is logged and tried again."""
        while True:
            try:
                more = await self.step()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                _log.warning("rollups_wait", error=str(error))
                more = False
            if not more:
                await asyncio.sleep(PERIOD)

    async def step(self) -> bool:
        """Do one piece of each kind of work; tell whether there is more.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database is down.
        """
        async with self._database.transaction(None) as session:
            behind = await rollups.advance(session, most=LONGEST)
        async with self._database.transaction(None) as session:
            taken = await rollups.repeat_stale(session, limit=NOTES)
        return behind or taken == NOTES
