"""How a worker process, which listens on no port, shows that it is alive.

While it polls its queue it touches a file; the supervisor (or a container's exec probe) looks at
the file's age.
"""

import asyncio
import time
from pathlib import Path

from core.errors import UnavailableError
from core.settings import Settings

INTERVAL = 2.0
"""Seconds between touches."""

STALE = 20.0
"""Seconds after which a silent worker does not count as alive."""


def heartbeat_file(settings: Settings, name: str) -> Path:
    """Return the file that the worker `name` touches."""
    return settings.home / "run" / f"worker-{name}.alive"


async def beat(file: Path) -> None:
    """Touch `file` until cancelled, then remove it. Run it beside the worker's polling."""
    # Not in a thread: a blocked event loop is to be seen as a silent worker.
    try:
        while True:
            _touch(file)
            await asyncio.sleep(INTERVAL)
    finally:
        _remove(file)


def _touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)


def check(file: Path) -> None:
    """Return when the worker is alive.

    Raises:
        UnavailableError: It has not touched its file lately.
    """
    try:
        age = time.time() - file.stat().st_mtime
    except FileNotFoundError:
        raise UnavailableError(f"{file.stem} does not poll yet") from None
    if age > STALE:
        raise UnavailableError(f"{file.stem} was last alive {age:.0f} s ago")
