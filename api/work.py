"""The unit of work of one request: one transaction, its audit entries, what follows its commit."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncSession

from api.security.caller import Caller
from core import bus
from core.db.repositories import audit, outbox
from core.db.session import Database
from core.temporal.outbox import OutboxPayload

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class Work:
    """What a service method works with.

    Attributes:
        session: The running transaction; nobody but the unit of work commits it.
        caller: Who asked.
        address: Where they asked from.
    """

    session: AsyncSession
    caller: Caller
    address: str
    _notices: dict[tuple[str, str], None] = field(default_factory=dict)

    @property
    def tenant_id(self) -> UUID:
        """The caller's tenant."""
        return self.caller.tenant_id

    def audit(self, action: str, resource_type: str, resource_id: object, **details: Any) -> None:
        """Write who did what, in this transaction."""
        audit.record(
            self.session,
            tenant_id=self.tenant_id,
            user_id=self.caller.user_id,
            action=action,
            resource_type=resource_type,
            resource_id=str(resource_id),
            details=details,
            address=self.address,
        )

    async def enqueue(self, payload: OutboxPayload) -> bool:
        """Let Temporal be told after the commit; False when it was told of this before."""
        added = await outbox.enqueue(self.session, self.tenant_id, payload)
        self.notify(bus.OUTBOX, "")
        return added

    def notify(self, channel: str, message: str) -> None:
        """Publish on the bus after the commit; the same notice twice is sent once."""
        self._notices[channel, message] = None

    async def publish(self, valkey: Redis) -> None:
        """Send the notices. One that is lost delays something and loses nothing."""
        if not self._notices:
            return
        try:
            async with valkey.pipeline(transaction=False) as pipe:
                for channel, message in self._notices:
                    pipe.publish(channel, message)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("bus.unavailable", error=str(error))


@asynccontextmanager
async def unit_of_work(
    database: Database, valkey: Redis, caller: Caller, address: str
) -> AsyncGenerator[Work]:
    """Run one unit of work: committed at the end, then its notices are sent."""
    async with database.transaction(caller.tenant_id) as session:
        work = Work(session, caller, address)
        yield work
    await work.publish(valkey)
