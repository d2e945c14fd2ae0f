"""The bounded queue between the hub and one client."""

import asyncio
from collections import deque

from api.live import frames
from api.metrics import Metrics

CAPACITY = 1000
"""Messages that wait for one client; some 200 KB."""


class Outlet:
    """Messages on their way to one client.

    A client that is too slow loses the oldest messages and is told how many: it sees that its
    picture has a hole, and nobody else waits for it.
    """

    def __init__(self, metrics: Metrics, capacity: int = CAPACITY) -> None:
        self._metrics = metrics
        self._capacity = capacity
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._filled = asyncio.Event()

    def offer(self, frame: str) -> None:
        """Add a message, if need be in the place of the oldest."""
        if len(self._waiting) >= self._capacity:
            self._waiting.popleft()
            self._dropped += 1
            self._metrics.live_dropped.inc()
        self._waiting.append(frame)
        self._filled.set()

    async def take(self) -> list[str]:
        """Return everything that waits, oldest first, waiting for a first message if need be."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        batch = list(self._waiting)
        self._waiting.clear()
        self._metrics.live_sent.inc(len(batch))
        if self._dropped:
            told = frames.failure(
                "lagging",
                "Messages were lost: they came faster than you read.",
                dropped=self._dropped,
            )
            batch.insert(0, told)
            self._dropped = 0
        return batch
