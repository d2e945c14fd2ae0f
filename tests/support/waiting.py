"""Waits for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def eventually(
    check: Callable[[], Any | Awaitable[Any]], timeout: float = 10, interval: float = 0.02
) -> Any:
    """Return the first true value of `check`, which may be a coroutine function.

    Raises:
        AssertionError: It did not come true in `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {timeout} s: {inspect.getsource(check).strip()}")
        await asyncio.sleep(interval)
