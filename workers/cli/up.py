"""`iotlinker up`: the supervisor in the foreground, with something to do once all is ready."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.logging import configure_logging
from core.settings import Settings, load_settings
from workers.cli.terminal import Advance, console, progress
from workers.stack.plan import plan
from workers.stack.state import PartState, Status
from workers.stack.supervisor import Supervisor

Main = Callable[[Settings], Coroutine[Any, Any, None]]
"""What runs once the platform is ready; when it returns, the platform stops."""


def up(home: Path | None) -> None:
    """Run the platform until Ctrl-C or `iotlinker down`."""
    asyncio.run(run_platform(load_settings(home), _serve))


async def _serve(settings: Settings) -> None:
    from workers.cli.users import ensure_first_administrator

    await ensure_first_administrator(settings)
    show_addresses(settings)
    console.print("Ctrl-C ends it.")
    await asyncio.Event().wait()


def show_addresses(settings: Settings) -> None:
    """Print where the parts are."""
    for name, address in addresses(settings).items():
        console.print(f"  {name:<16} {address}")


def addresses(settings: Settings) -> dict[str, str]:
    """Return where people and devices find the parts."""
    found = {
        "Web application": settings.api_url,
        "API docs": f"{settings.api_url}/docs",
        "MQTT": settings.mqtt_endpoint,
        "MLflow": settings.mlflow_url,
        "Logs": str(settings.logs),
    }
    if settings.temporal.address is None:
        found["Temporal UI"] = settings.temporal_ui_url
    return found


async def run_platform(settings: Settings, main: Main) -> None:
    """Start everything, run `main`, and end every process, whatever happens.

    Raises:
        ConfigurationError: A port is taken.
        ConflictError: It runs already.
        StartError: A part did not come up.
    """
    with _logged(settings):
        parts = plan(settings)
        announcer = _Announcer(len(parts))
        supervisor = Supervisor(
            parts, settings.home, addresses=addresses(settings), listener=announcer
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, supervisor.stop)
        running = asyncio.create_task(supervisor.run())
        with progress("Starting") as advance:
            announcer.advance = advance
            await _either(running, asyncio.ensure_future(supervisor.ready.wait()))
            announcer.advance = None
        try:
            if supervisor.ready.is_set():
                await _beside(supervisor, main(settings))
        finally:
            await running


async def _either(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> None:
    """Wait until one of them is done, and cancel the second when the first is."""
    await asyncio.wait({one, other}, return_when=asyncio.FIRST_COMPLETED)
    if one.done():
        other.cancel()
        await asyncio.wait({other})


async def _beside(supervisor: Supervisor, main: Coroutine[Any, Any, None]) -> None:
    """Run `main`; its end stops the supervisor, a stop of the supervisor cancels it."""
    work = asyncio.create_task(main)
    stopping = asyncio.create_task(supervisor.stopping.wait())
    await _either(stopping, work)
    stopping.cancel()
    console.print("Stopping …")
    if not supervisor.stopping.is_set():
        supervisor.stop()
    if not work.cancelled():
        work.result()


@contextmanager
def _logged(settings: Settings) -> Generator[None]:
    """Send the supervisor's own log to a file: the terminal is for people."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    with (settings.logs / "supervisor.log").open("a") as file:
        configure_logging("supervisor", stream=file)
        try:
            yield
        finally:
            # A future whose failure nobody asked for says so when it is collected: let it do so
            # now, into this file.
            gc.collect()


class _Announcer:
    """Prints a line when a part becomes ready or has trouble, and moves the bar."""

    def __init__(self, total: int) -> None:
        self.advance: Advance | None = None
        self._total = total
        self._started = time.monotonic()
        self._seen: dict[str, Status] = {}

    def __call__(self, part: PartState) -> None:
        before = self._seen.get(part.name)
        self._seen[part.name] = part.status
        if self.advance is not None:
            ready = sum(status is Status.READY for status in self._seen.values())
            self.advance(ready, self._total, "")
        if part.status is before:
            return
        if part.status is Status.READY:
            took = time.monotonic() - self._started
            again = f" again (restart {part.restarts})" if part.restarts else f" after {took:.1f} s"
            console.print(f"  {part.name} is ready{again}")
        elif part.status is Status.RESTARTING:
            console.print(f"  [yellow]{part.name} {part.detail}; restarting it[/]")
        elif part.status is Status.SILENT:
            console.print(f"  [yellow]{part.name} does not answer: {part.detail}[/]")
