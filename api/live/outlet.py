"""The bounded queue between the hub and one client."""

import asyncio
from collections import deque

from api.live import frames
from api.live.frames import Bundle
from api.metrics import Metrics

CAPACITY = 5000
"""Messages that wait for one client, about 1 MB; those of one device are shared by its clients."""


class Outlet:
    """Messages on their way to one client.

    A client that is too slow loses the oldest messages and is told how many: it sees that its
    picture has a hole, and nobody else waits for it.

    Attributes:
        batches: The client takes measurements that were stored together in one message.
    """

    def __init__(self, metrics: Metrics, capacity: int = CAPACITY) -> None:
        self._metrics = metrics
        self._capacity = capacity
        self.batches = False
        self._waiting: deque[Bundle | str] = deque()
        self._size = 0
        self._dropped = 0
        self._filled = asyncio.Event()

    def offer(self, message: Bundle | str) -> None:
        """Add a message, if need be in the place of the oldest."""
        self._waiting.append(message)
        self._size += _size(message)
        while self._size > self._capacity and len(self._waiting) > 1:
            lost = _size(self._waiting.popleft())
            self._size -= lost
            self._dropped += lost
            self._metrics.live_dropped.inc(lost)
        self._filled.set()

    async def take(self) -> list[str]:
        """Return everything that waits, oldest first, waiting for a first message if need be."""
        batch: list[str] = []
        while not batch:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            if self._dropped:
                batch.append(
                    frames.failure(
                        "lagging",
                        "Messages were lost: they came faster than you read.",
                        dropped=self._dropped,
                    )
                )
                self._dropped = 0
            for message in self._waiting:
                if isinstance(message, str):
                    batch.append(message)
                else:
                    batch += message.whole() if self.batches else message.frames()
            self._waiting.clear()
            self._size = 0
        self._metrics.live_sent.inc(len(batch))
        return batch


def _size(message: Bundle | str) -> int:
    return 1 if isinstance(message, str) else message.size
