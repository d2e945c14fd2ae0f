"""How long a measurement takes from the engine to a WebSocket client."""

import asyncio
import json
import logging
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

_log = logging.getLogger("demo.latency")


class LatencyMeter:
    """Subscribes to some devices' data and keeps the newest latencies.

    The engines' time stamps are the time of sending, so now minus time stamp is the way through
    broker, database, bus and API.
    """

    def __init__(self, size: int = 2000) -> None:
        self._seconds: deque[float] = deque(maxlen=size)
        self.messages = 0

    def percentiles(self) -> tuple[float, float, float] | None:
        """Return the 50th, 95th and 99th percentile of the newest latencies in seconds."""
        if len(self._seconds) < 2:
            return None
        cuts = statistics.quantiles(self._seconds, n=100)
        return cuts[49], cuts[94], cuts[98]

    async def run(
        self, url: str, token: Callable[[], Awaitable[str]], devices: Sequence[UUID]
    ) -> None:
        """Listen until cancelled; connect again when the API goes away."""
        while True:
            try:
                await self._listen(url, await token(), devices)
            except (OSError, WebSocketException, TimeoutError) as error:
                _log.info("connection lost: %s", error)
            await asyncio.sleep(1)

    async def _listen(self, url: str, token: str, devices: Sequence[UUID]) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            for device in devices:
                await socket.send(
                    json.dumps(
                        {
                            "type": "subscribe",
                            "channel": "device-data",
                            "payload": {"device_id": str(device)},
                        }
                    )
                )
            async for text in socket:
                self.take(json.loads(text))

    def take(self, message: dict[str, object]) -> None:
        """Measure one message of the WebSocket."""
        payload = message.get("payload")
        if message.get("type") != "data" or not isinstance(payload, dict):
            return
        measured = datetime.fromisoformat(payload["timestamp"])
        self.messages += 1
        self._seconds.append(time.time() - measured.timestamp())
