"""Slows down guessing of passwords: failures are counted in Valkey."""

import hashlib

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.errors import IoTLinkerError

_WINDOW = 300  # seconds
_LIMITS = {"pair": 5, "account": 30, "address": 100}
"""Failures within the window for one account from one address, one account, one address."""

logger = structlog.get_logger(__name__)


class TooManyRequestsError(IoTLinkerError):
    """The caller must wait.

    Attributes:
        retry_after: Seconds.
    """

    code, status, title = "too_many_requests", 429, "Too many requests"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


def _keys(email: str, address: str) -> dict[str, str]:
    account = hashlib.sha256(email.encode()).hexdigest()[:32]  # no personal data in keys
    return {
        "pair": f"iotlinker:login:{account}:{address}",
        "account": f"iotlinker:login:{account}",
        "address": f"iotlinker:login::{address}",
    }


class LoginThrottle:
    """Counts failed logins.

    Without Valkey nobody is refused: the number of hashes computed at once still bounds guessing,
    and a cache that is down must not lock everybody out.
    """

    def __init__(self, valkey: Redis) -> None:
        self._valkey = valkey

    async def check(self, email: str, address: str) -> None:
        """Let an attempt through, or not.

        Raises:
            TooManyRequestsError: Too many failures lately.
        """
        keys = _keys(email, address)
        try:
            counts = await self._valkey.mget(list(keys.values()))
            for (scope, key), count in zip(keys.items(), counts, strict=True):
                if count is not None and int(count) >= _LIMITS[scope]:
                    wait = max(1, await self._valkey.ttl(key))
                    raise TooManyRequestsError(
                        "Too many failed logins; wait before trying again.", retry_after=wait
                    )
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("login.throttle_unavailable", error=str(error))

    async def failed(self, email: str, address: str) -> None:
        """Count a failure."""
        try:
            async with self._valkey.pipeline(transaction=True) as pipe:
                for key in _keys(email, address).values():
                    pipe.incr(key)
                    pipe.expire(key, _WINDOW)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("login.throttle_unavailable", error=str(error))

    async def succeeded(self, email: str, address: str) -> None:
        """Forget the failures of this account from this address."""
        try:
            await self._valkey.delete(_keys(email, address)["pair"])
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("login.throttle_unavailable", error=str(error))
