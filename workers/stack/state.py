"""What runs, written to `run/state.json`, so that other terminals can show and end it."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec
import psutil

from core.errors import ConflictError


class Status(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    SILENT = "not answering"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class PartState(msgspec.Struct):
    """One part.

    Attributes:
        process: Whether it is a process of ours; otherwise a step done once.
        pid, created: The process and its start in epoch seconds; an id alone may be another's by
            the time it is read.
        stop_signal: What asks the process to stop.
        restarts: How often it was started again.
        since: Instant of the last change of status, epoch seconds.
    """

    name: str
    process: bool
    awaited: bool = True
    status: Status = Status.WAITING
    pid: int | None = None
    created: float | None = None
    stop_signal: int = 15
    ports: tuple[int, ...] = ()
    restarts: int = 0
    since: float = msgspec.field(default_factory=time.time)
    detail: str = ""


class StackState(msgspec.Struct):
    """The whole platform as its supervisor sees it."""

    supervisor: int
    started: float
    parts: list[PartState]
    addresses: dict[str, str] = {}

    @property
    def ready(self) -> bool:
        """Whether every part that counts is ready."""
        return all(part.status is Status.READY for part in self.parts if part.awaited)


class StateFile:
    """The state file and the lock of one home."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "run"
        self._file = self._folder / "state.json"
        self._lock = self._folder / "lock"

    def write(self, state: StackState) -> None:
        """Replace the file; a reader sees the old or the new, never a part."""
        temporary = self._file.with_suffix(".new")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
        temporary.replace(self._file)

    def read(self) -> StackState | None:
        """Return what was written last, or None when nothing was."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=StackState)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            return None  # of another version: its processes are gone or hold their ports

    def running(self) -> int | None:
        """Return the process that holds the lock, or None when nobody does."""
        try:
            handle = os.open(self._lock, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            # Empty for the instant between its lock and its name in it.
            return int(os.read(handle, 20) or 0)
        finally:
            os.close(handle)
        return None

    @contextmanager
    def lock(self) -> Generator[None]:
        """Hold the home. The system lets go of it however the process ends.

        Raises:
            ConflictError: Another supervisor holds it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _locked(handle):
                raise ConflictError(
                    f"the platform in {self._folder.parent} is running already (process "
                    f"{self.running()}); `iotlinker status` shows it, `iotlinker down` ends it"
                )
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            yield
        finally:
            os.close(handle)


def _locked(handle: int) -> bool:
    """Take the lock; one that only looks whether it is taken has it for an instant too."""
    deadline = time.monotonic() + 0.5
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def created(pid: int) -> float | None:
    """Return when a process started, or None when it does not run (any more)."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def leftovers(state: StackState) -> list[tuple[PartState, psutil.Process]]:
    """Return the processes of `state` that still run; ids used again by others are not among."""
    found: list[tuple[PartState, psutil.Process]] = []
    for part in state.parts:
        if part.pid is None or part.created is None:
            continue
        try:
            process = psutil.Process(part.pid)
            # The start is computed from the boot time, which a clock correction moves a little.
            ours = abs(process.create_time() - part.created) < 2
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append((part, process))
        except psutil.Error:
            continue
    return found


def end_leftovers(state: StackState, timeout: float = 15.0) -> list[str]:
    """End what an earlier supervisor left running.

    Returns:
        Names of the parts that were ended.
    """
    found = leftovers(state)
    groups = [process.pid for _, process in found]
    for part, process in reversed(found):
        _signal_group(process.pid, part.stop_signal)
    psutil.wait_procs([process for _, process in found], timeout=timeout)
    for group in groups:
        _signal_group(group, 9)
    return [part.name for part, _ in found]


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
