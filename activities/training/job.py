"""Blocking work in a thread, with heartbeats and a way to stop it."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from temporalio import activity

from mlops.errors import TrainingStoppedError

T = TypeVar("T")

_BEAT: Final = 2.0
_STOP_TIMEOUT: Final = 30.0


class Job:
    """What the thread and the activity share.

    Attributes:
        stop: Set when the work must end.
        details: What the next heartbeat tells; replaced as a whole.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.details: dict[str, Any] = {}

    def check(self) -> None:
        """Raise when the work must end; called by the thread between steps.

        Raises:
            TrainingStoppedError: It must.
        """
        if self.stop.is_set():
            raise TrainingStoppedError("the activity was cancelled")


async def run_in_thread(work: Callable[[Job], T]) -> T:
    """Run `work` in a thread and beat until it ends.

    When the activity is cancelled (by a person, a shutdown, a lost heartbeat), the thread is told
    and waited for: an attempt that lives on would write into the files of the next one.
    """
    job = Job()
    thread = asyncio.ensure_future(asyncio.to_thread(work, job))
    try:
        while not thread.done():
            await asyncio.wait({thread}, timeout=_BEAT)
            activity.heartbeat(job.details)
        return thread.result()
    except asyncio.CancelledError:
        job.stop.set()
        await asyncio.wait({thread}, timeout=_STOP_TIMEOUT)
        if thread.done() and not isinstance(thread.exception(), TrainingStoppedError | None):
            thread.result()
        raise
