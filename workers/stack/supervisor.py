"""Starts the parts in parallel, keeps them running, and stops them in order.

1. A part starts when all it needs is ready, and stops when all that need it have stopped.
2. A part that cannot be brought up the first time ends the whole start, with the reason.
3. A process that was ready once and dies is started again, for ever, with growing waits.
4. When `run` returns or raises, no process is left. Should this process be killed, `guard.py`
   ends them; should that be killed too, the next start does (`state.end_leftovers`).
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from core.errors import IoTLinkerError
from workers.stack.ports import require_free_ports
from workers.stack.process import Backoff, Child, describe_exit, last_lines
from workers.stack.service import Part, Service, Step
from workers.stack.state import (
    PartState,
    StackState,
    StateFile,
    Status,
    end_leftovers,
    leftovers,
)

Listener = Callable[[PartState], None]

log = structlog.stdlib.get_logger("supervisor")


class StartError(IoTLinkerError):
    """A part did not come up; the message says which and why."""

    code, status, title = "start_failed", 503, "The platform did not start"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits, in seconds.

    Attributes:
        start: For a process to be ready, each time.
        attempts: First starts of a process before it counts as broken.
        probe: For the answer to one probe.
        starting: Between probes until it is ready.
        running: Between probes afterwards.
        silence: Without an answer until a running process is killed and started again.
    """

    start: float = 90.0
    attempts: int = 3
    probe: float = 5.0
    starting: float = 0.1
    running: float = 5.0
    silence: float = 90.0


@dataclass(slots=True)
class _Progress:
    """What the other parts wait for."""

    state: PartState
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs the parts of one home."""

    def __init__(
        self,
        parts: Sequence[Part],
        home: Path,
        *,
        addresses: dict[str, str] | None = None,
        patience: Patience = Patience(),
        backoff: Callable[[], Backoff] = Backoff,
        listener: Listener | None = None,
    ) -> None:
        self._parts = tuple(parts)
        self._logs = home / "logs"
        self._file = StateFile(home)
        self._patience = patience
        self._backoff = backoff
        self._listener = listener
        self._progress = {part.name: _Progress(_fresh(part)) for part in parts}
        self._state = StackState(
            supervisor=0,
            started=time.time(),
            parts=[progress.state for progress in self._progress.values()],
            addresses=addresses or {},
        )
        self.stopping = asyncio.Event()
        """Set once a stop has begun."""
        self._hurry = asyncio.Event()
        self._failure: IoTLinkerError | None = None
        self._guard: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        """Set once every part that counts is ready for the first time."""

    @property
    def state(self) -> StackState:
        """The state as it is now; not to be changed."""
        return self._state

    def stop(self) -> None:
        """Ask for an orderly stop; asked again, kill at once."""
        if self.stopping.is_set():
            self._hurry.set()
        self.stopping.set()

    async def run(self) -> None:
        """Run until `stop` is called.

        Raises:
            ConfigurationError: A port is taken.
            ConflictError: Another supervisor runs this home.
            StartError: A part did not come up the first time.
        """
        with self._file.lock():
            await asyncio.to_thread(self._end_leftovers)
            for part in self._parts:
                if isinstance(part, Service):
                    require_free_ports(part)
            self._logs.mkdir(parents=True, exist_ok=True)
            self._state.supervisor = os.getpid()
            async with self._guarded(), asyncio.TaskGroup() as group:
                for part in self._parts:
                    group.create_task(self._run_part(part), name=part.name)
            if self._failure is not None:
                raise self._failure

    def _end_leftovers(self) -> None:
        earlier = self._file.read()
        if earlier is not None and leftovers(earlier):
            names = end_leftovers(earlier)
            log.warning("ended what an earlier supervisor left running", parts=names)

    # -- one part -------------------------------------------------------------------------------

    async def _run_part(self, part: Part) -> None:
        progress = self._progress[part.name]
        try:
            for name in part.needs:
                if not await self._unless_stopping(self._progress[name].ready.wait()):
                    return
            if isinstance(part, Service):
                await self._keep_running(part)
            else:
                await self._do(part)
        except (IoTLinkerError, OSError) as error:
            self._fail(part, error)
        except BaseException:
            self.stopping.set()  # a fault of ours: the others must still be stopped in order
            raise
        finally:
            self._settle(progress)

    def _settle(self, progress: _Progress) -> None:
        if progress.state.status is not Status.FAILED:
            self._set(progress.state, Status.STOPPED, pid=None)
        progress.stopped.set()

    def _fail(self, part: Part, error: Exception) -> None:
        self._set(self._progress[part.name].state, Status.FAILED, detail=str(error), pid=None)
        if self._failure is None:
            self._failure = (
                error
                if isinstance(error, IoTLinkerError)
                else StartError(f"{part.name} did not start: {error}")
            )
        self.stopping.set()

    async def _do(self, step: Step) -> None:
        state = self._progress[step.name].state
        self._set(state, Status.STARTING)
        deadline = time.monotonic() + step.retry
        while True:
            try:
                await step.action()
                break
            except Exception as error:
                if time.monotonic() >= deadline:
                    raise StartError(f"{step.name} failed: {_words(error)}") from error
                self._set(state, Status.STARTING, detail=_words(error))
            if await self._stops_within(0.5):
                return
        self._became_ready(state)
        await self.stopping.wait()
        await self._dependents_stopped(step.name)

    async def _keep_running(self, service: Service) -> None:
        state = self._progress[service.name].state
        backoff = self._backoff()
        attempts = 0
        while True:
            if not state.restarts:
                self._set(state, Status.STARTING)
            if service.prepare is not None:
                await asyncio.to_thread(service.prepare)
            child = await self._start(service)
            if not await self._unless_stopping(self._watch(service, child)):
                await self._stop(service, child)
                return
            code = await child.wait()
            await self._tell_guard(f"- {child.pid}")
            attempts += 1
            ever_ready = self._progress[service.name].ready.is_set()
            if service.awaited and not ever_ready and attempts >= self._patience.attempts:
                raise StartError(
                    f"{service.name} {describe_exit(code)} before it was ready; the end of "
                    f"{self._log(service)}:\n{last_lines(self._log(service))}"
                )
            wait = backoff.after(child.ran)
            detail = f"{describe_exit(code)} after {child.ran:.1f} s"
            state.restarts += 1
            log.warning("restarting", part=service.name, reason=detail, wait_seconds=wait)
            self._set(state, Status.RESTARTING, detail=detail, pid=None)
            if await self._stops_within(wait):
                return

    async def _start(self, service: Service) -> Child:
        child = await Child.start(service, self._log(service))
        await self._tell_guard(f"+ {child.pid} {service.stop_signal}")
        state = self._progress[service.name].state
        state.created = child.created
        self._set(state, state.status, pid=child.pid)
        return child

    async def _watch(self, service: Service, child: Child) -> None:
        """Return when `child` has ended, or has been killed since it did not answer."""
        patience = self._patience
        state = self._progress[service.name].state
        exited = asyncio.create_task(child.wait())
        try:
            answered = False
            heard = time.monotonic()
            while not exited.done():
                problem = await self._probe(service)
                now = time.monotonic()
                if problem is None:
                    heard = now
                    if state.status is not Status.READY and not exited.done():
                        self._became_ready(state)
                    answered = True
                elif answered and state.status is Status.READY:
                    log.warning("does not answer", part=service.name, reason=problem)
                    self._set(state, Status.SILENT, detail=problem)
                if now - heard > (patience.silence if answered else patience.start):
                    log.error("killing it: no answer", part=service.name, reason=problem)
                    child.signal_group(9)
                    await exited
                    return
                pause = patience.running if answered else patience.starting
                await asyncio.wait({exited}, timeout=pause)
        finally:
            exited.cancel()

    async def _probe(self, service: Service) -> str | None:
        try:
            async with asyncio.timeout(self._patience.probe):
                await service.probe()
        except Exception as error:  # each client has errors of its own; all mean "not yet"
            return _words(error)
        return None

    async def _stop(self, service: Service, child: Child) -> None:
        await self._dependents_stopped(service.name)
        self._set(self._progress[service.name].state, Status.STOPPING)
        if not await child.stop(self._hurry):
            log.warning("killed: did not stop in time", part=service.name)
        await self._tell_guard(f"- {child.pid}")

    async def _dependents_stopped(self, name: str) -> None:
        for part in self._parts:
            if name in part.needs:
                await self._progress[part.name].stopped.wait()

    # -- what others see ------------------------------------------------------------------------

    def _became_ready(self, state: PartState) -> None:
        self._set(state, Status.READY)
        progress = self._progress[state.name]
        log.info("ready", part=state.name, pid=state.pid, restarts=state.restarts)
        progress.ready.set()
        if self._state.ready:
            self.ready.set()

    def _set(
        self, state: PartState, status: Status, *, detail: str = "", pid: int | None = -1
    ) -> None:
        if status is not state.status:
            state.since = time.time()
        state.status = status
        state.detail = detail
        if pid != -1:
            state.pid = pid
        try:
            self._file.write(self._state)
        except OSError as error:
            # A full disk is for the parts to get over; those that run must not be stopped for it.
            log.error("the state cannot be written", reason=_words(error))  # noqa: TRY400
        if self._listener is not None:
            self._listener(state)

    def _log(self, service: Service) -> Path:
        return self._logs / f"{service.name}.log"

    # -- helpers --------------------------------------------------------------------------------

    async def _stops_within(self, seconds: float) -> bool:
        """Wait; True when the stop came before the seconds were over."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return False
        return True

    async def _unless_stopping(self, wanted_first: Coroutine[Any, Any, Any]) -> bool:
        """Wait for the coroutine or the stop, which cancels it; True when it ended by itself."""
        wanted = asyncio.create_task(wanted_first)
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({wanted, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if wanted.done():
            wanted.result()
            return True
        wanted.cancel()
        await asyncio.wait({wanted})
        return False

    @asynccontextmanager
    async def _guarded(self) -> AsyncGenerator[None]:
        """Run the guard beside the parts."""
        self._guard = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("guard.py")),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield
        finally:
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            await self._guard.wait()

    async def _tell_guard(self, line: str) -> None:
        guard = self._guard
        if guard is None or guard.stdin is None or guard.returncode is not None:
            return
        try:
            guard.stdin.write(f"{line}\n".encode())
            await guard.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            log.warning("the guard is gone; a killed supervisor would leave processes behind")


def _fresh(part: Part) -> PartState:
    if isinstance(part, Step):
        return PartState(part.name, process=False, awaited=part.awaited)
    return PartState(
        part.name,
        process=True,
        awaited=part.awaited,
        stop_signal=part.stop_signal,
        ports=tuple(port.number for port in part.ports),
    )


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
