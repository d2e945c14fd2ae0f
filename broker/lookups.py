"""Many questions to the database at once become one query."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lookups(Generic[K, V]):
    """Collects the keys that are asked for while queries are under way; they go into the next.

    A lone question is asked at once. In a storm of sign-ins each query answers hundreds, and no
    more than `at_once` connections to the database are taken.
    """

    def __init__(
        self,
        fetch: Callable[[list[K]], Awaitable[Mapping[K, V]]],
        *,
        at_once: int = 2,
        largest: int = 500,
    ) -> None:
        self._fetch = fetch
        self._at_once, self._largest = at_once, largest
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0

    async def get(self, key: K) -> V | None:
        """Return what the query found under the key.

        Raises:
            Exception: What the query raised; everybody in it gets the same.
        """
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._running < self._at_once:
                self._running += 1
                task = asyncio.create_task(self._ask())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(future)  # others may wait for the same

    async def _ask(self) -> None:
        try:
            while self._waiting:
                await self._round()
        finally:
            # Here and not when the task is put away: who asks in between would wait for ever.
            self._running -= 1

    async def _round(self) -> None:
        keys = list(self._waiting)[: self._largest]
        futures = {key: self._waiting.pop(key) for key in keys}
        try:
            found = await self._fetch(keys)
        except Exception as error:
            for future in futures.values():
                future.set_exception(error)
                future.exception()  # nobody may be waiting any more
        except BaseException:
            for future in futures.values():
                future.cancel()
            raise
        else:
            for key, future in futures.items():
                future.set_result(found.get(key))
