"""Keeps one session at the broker: connects, subscribes, and comes back after every failure."""

import asyncio
import random
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from broker.external.link import (
    Address,
    Handler,
    Link,
    LinkLostError,
    RefusedError,
    VersionError,
)
from broker.external.packets import ProtocolError
from core.settings import Settings

_log = structlog.get_logger(__name__)

_LONGEST_PAUSE: Final = 15.0  # seconds
_ENDED: Final = (OSError, TimeoutError, ssl.SSLError, LinkLostError, RefusedError, ProtocolError)


class Subscriber:
    """A lasting session: what the broker could not deliver waits there under its client id.

    Args:
        settings: Where the broker is.
        client_id: Names the session.
        handler: Takes the messages; None when only publishing.
        filters: What is subscribed to.
        connected: Told of a connection that is there, and by None that it is gone.
    """

    def __init__(
        self,
        settings: Settings,
        client_id: str,
        handler: Handler | None = None,
        filters: Sequence[str] = (),
        connected: Callable[[Link | None], None] | None = None,
    ) -> None:
        self._settings = settings
        self._address = Address.of(settings.ingest)
        self._client_id = client_id
        self._handler = handler
        self._filters = filters
        self._connected = connected
        self._begins_with_five = settings.ingest.protocol != "3.1.1"
        self._five = self._begins_with_five
        self._was_there = False
        self.trouble: str | None = "not connected to the MQTT broker yet"

    async def run(self) -> None:
        """Stay connected until cancelled."""
        pause = 0.1
        while True:
            try:
                await self._once()
            except VersionError:
                if self._settings.ingest.protocol == "5":
                    self.trouble = "the MQTT broker does not speak MQTT 5"
                elif self._five:
                    self._five = False
                    _log.info("the broker speaks MQTT 3.1.1", client_id=self._client_id)
                    continue
            except _ENDED as error:
                self.trouble = f"not connected to the MQTT broker: {error!r}"
                # It may have been restarting when it seemed not to speak MQTT 5.
                if not self._was_there:
                    self._five = self._begins_with_five
            if self._was_there:
                pause = 0.1
            _log.warning(
                "the MQTT broker is tried again",
                client_id=self._client_id,
                reason=self.trouble,
                seconds=pause,
            )
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  (jitter)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _once(self) -> None:
        self._was_there = False
        link = await Link.open(
            self._address,
            self._client_id,
            self._settings.ingest,
            self._settings.broker.max_payload,
            five=self._five,
            clean=self._handler is None,
        )
        if self._handler is not None and not link.limits.shared and self._shares:
            link.abort()
            raise RefusedError("it has no shared subscriptions: set IOTLINKER_INGEST_SHARED=false")
        self._was_there = True
        self.trouble = None
        _log.info("connected", client_id=self._client_id, mqtt="5" if link.five else "3.1.1")
        if self._connected is not None:
            self._connected(link)
        try:
            await link.serve(self._handler, self._filters)
        except asyncio.CancelledError:
            await link.close()
            raise
        finally:
            if self._connected is not None:
                self._connected(None)

    @property
    def _shares(self) -> bool:
        return any(each.startswith("$share/") for each in self._filters)
