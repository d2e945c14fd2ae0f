"""One child process: started in a group of its own, logged to a file, stopped in an orderly way."""

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from typing import Self

from workers.stack.service import Service
from workers.stack.state import created

_LOG_LIMIT = 16 * 1024 * 1024
_LOGS_KEPT = 3


class Backoff:
    """Seconds to wait before the next start of a process that keeps dying.

    Doubles from `first` to `longest`; a process that ran for `steady` seconds has earned a fresh
    start.
    """

    def __init__(self, first: float = 0.25, longest: float = 30.0, steady: float = 30.0) -> None:
        self._first, self._longest, self._steady = first, longest, steady
        self._next = first

    def after(self, ran: float) -> float:
        """Return the wait after a run of `ran` seconds."""
        if ran >= self._steady:
            self._next = self._first
        wait = self._next
        self._next = min(self._next * 2, self._longest)
        return wait


def prepare_log(log: Path, limit: int = _LOG_LIMIT) -> None:
    """Make a log for the owner's eyes; set it aside when it has grown past `limit` bytes."""
    log.touch(mode=0o600)
    if log.stat().st_size < limit:
        return
    for number in range(_LOGS_KEPT, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
        if newer.exists():
            newer.replace(older)
    log.touch(mode=0o600)


def last_lines(log: Path, count: int = 5) -> str:
    """Return the end of a log."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines[-count:] if line.strip())


class Child:
    """A started process and the group it leads."""

    def __init__(self, service: Service, process: asyncio.subprocess.Process) -> None:
        self.service = service
        self.pid = process.pid
        self.created = created(process.pid)
        self._process = process
        self._started = time.monotonic()

    @classmethod
    async def start(cls, service: Service, log: Path) -> Self:
        """Start `service` with its output appended to `log`.

        Raises:
            OSError: The program cannot be started.
        """
        prepare_log(log)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *service.command,
                env=os.environ | service.environment,
                user=service.user,
                group=service.user,
                extra_groups=[] if service.user else None,
                cwd=service.working_directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A group of its own: Ctrl-C reaches the supervisor alone, which keeps the order.
                start_new_session=True,
            )
        if service.niceness:
            try:
                os.setpriority(os.PRIO_PROCESS, process.pid, service.niceness)
            except OSError as error:
                logging.getLogger(__name__).warning("priority of %s: %s", service.name, error)
        return cls(service, process)

    @property
    def ran(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    async def wait(self) -> int:
        """Wait for its end; return the exit code, negative for a signal."""
        code = await self._process.wait()
        self.signal_group(signal.SIGKILL)  # what it may have started must not hold its port
        return code

    def signal_group(self, number: int) -> None:
        """Signal it and all it started."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    async def stop(self, hurry: asyncio.Event) -> bool:
        """Ask it to stop, and kill it when it does not, or at once when `hurry` is set.

        Returns:
            Whether it stopped by itself.
        """
        self.signal_group(self.service.stop_signal)
        ended = asyncio.create_task(self.wait())
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait(
            {ended, hurried},
            timeout=self.service.stop_timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )
        hurried.cancel()
        orderly = ended.done()
        if not orderly:
            self.signal_group(signal.SIGKILL)
        await ended
        return orderly


def describe_exit(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
