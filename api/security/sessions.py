"""Whether a session may still be used: PostgreSQL is the record, Valkey remembers for moments."""

from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.security.caller import Caller
from core.db.repositories import identity
from core.db.session import Database
from core.errors import NotAuthenticatedError

_LIVE, _ENDED = b"live", b"ended"
_REMEMBER_LIVE = 15
"""Seconds; also the longest that an ended session is still accepted when the notice of its end
could not be written to Valkey."""

logger = structlog.get_logger(__name__)


def _key(session_id: UUID) -> str:
    return f"iotlinker:session:{session_id}"


class Sessions:
    """Checks sessions on every request."""

    def __init__(self, database: Database, valkey: Redis, *, access_seconds: int) -> None:
        self._database = database
        self._valkey = valkey
        self._remember_ended = access_seconds + 60

    async def check(self, caller: Caller) -> None:
        """Check that the caller's session is live.

        Raises:
            NotAuthenticatedError: It has ended, or its user or tenant is not active.
        """
        key = _key(caller.session_id)
        try:
            known = await self._valkey.get(key)
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("sessions.cache_unavailable", error=str(error))
            known = None
        if known == _LIVE:
            return
        if known is None:
            async with self._database.transaction(caller.tenant_id) as session:
                live = await identity.session_is_live(session, caller.session_id)
            if live:
                # Only if nothing is there: this answer may be older than a logout's notice.
                await self._remember(key, _LIVE, _REMEMBER_LIVE, only_new=True)
                return
        raise NotAuthenticatedError("The session has ended.")

    async def forget(self, session_id: UUID) -> None:
        """Refuse a session's access tokens from now on; call it after the commit of its end."""
        await self._remember(_key(session_id), _ENDED, self._remember_ended, only_new=False)

    async def _remember(self, key: str, value: bytes, seconds: int, *, only_new: bool) -> None:
        try:
            await self._valkey.set(key, value, ex=seconds, nx=only_new)
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("sessions.cache_unavailable", error=str(error))
