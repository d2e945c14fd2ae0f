"""`iotlinker status`, `down` and `reset`: from another terminal than the one that runs it."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import msgspec
import typer
from rich.table import Table

from core.errors import (
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from core.settings.root import HomeSettings
from workers.cli.terminal import Advance, console, progress
from workers.stack.state import StackState, StateFile, Status, created, end_leftovers

_STOP_TIMEOUT = 120.0
_COLOURS = {Status.READY: "green", Status.FAILED: "red", Status.SILENT: "red"}
_CONTENT = ("artifacts", "demo", "logs", "postgres", "run", "temporal", "valkey", "secrets.json")
"""What the platform puts into its home; `reset` removes these and nothing else."""


def _folder(home: Path | None) -> Path:
    return (home or HomeSettings().home).resolve()


def status(home: Path | None, *, as_json: bool) -> None:
    """Print the state; exit with 1 unless everything that counts is ready."""
    folder = _folder(home)
    file = StateFile(folder)
    state = file.read() if file.running() is not None else None
    if as_json:
        sys.stdout.write(msgspec.json.encode(state).decode() + "\n")
    elif state is None:
        console.print(f"The platform in {folder} is not running; `iotlinker up` starts it.")
    else:
        console.print(_table(state))
        for name, address in state.addresses.items():
            console.print(f"{name}: {address}")
    raise typer.Exit(0 if state is not None and state.ready else 1)


def _table(state: StackState) -> Table:
    table = Table(title=f"supervisor: process {state.supervisor}", title_justify="left")
    for name in ("part", "status", "for", "process", "ports", "restarts", ""):
        table.add_column(name, no_wrap=name != "")
    for part in state.parts:
        colour = _COLOURS.get(part.status, "yellow")
        table.add_row(
            part.name,
            f"[{colour}]{part.status}[/]",
            _duration(time.time() - part.since),
            str(part.pid or ""),
            " ".join(map(str, part.ports)),
            str(part.restarts) if part.process else "",
            part.detail.splitlines()[0] if part.detail else "",
        )
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def down(home: Path | None) -> None:
    """Ask the supervisor to stop and wait for it; end what was left without one."""
    file = StateFile(_folder(home))
    if supervisor := file.running():
        with progress("Stopping") as advance:
            _stop(file, supervisor, advance)
        console.print("The platform has stopped.")
    elif (state := file.read()) is not None and (ended := end_leftovers(state)):
        console.print(f"No supervisor was running; ended what it left: {', '.join(ended)}.")
    else:
        raise NotFoundError("the platform is not running")


def _stop(file: StateFile, supervisor: int, advance: Advance) -> None:
    started = created(supervisor)
    try:
        os.kill(supervisor, signal.SIGTERM)
    except ProcessLookupError:
        return  # it was quicker
    except PermissionError:
        raise PermissionDeniedError(f"process {supervisor} belongs to another user") from None
    deadline = time.monotonic() + _STOP_TIMEOUT
    # It lets go of the home just before it ends itself; both are waited for.
    while file.running() == supervisor or created(supervisor) == started:
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the supervisor (process {supervisor}) has not stopped in "
                f"{_STOP_TIMEOUT:.0f} s; a second `iotlinker down` kills what is left"
            )
        if (state := file.read()) is not None:
            left = [part for part in state.parts if part.pid is not None]
            total = sum(part.process for part in state.parts)
            advance(total - len(left), total, ", ".join(part.name for part in left))
        time.sleep(0.1)


def reset(home: Path | None, *, yes: bool) -> None:
    """Delete the state of a stopped platform."""
    folder = _folder(home)
    if not (folder / "secrets.json").exists():
        raise NotFoundError(f"there is no state of the platform in {folder}")
    file = StateFile(folder)
    if file.running() is not None:
        raise ConflictError("the platform is running; end it first with `iotlinker down`")
    if not yes:
        typer.confirm(
            f"Delete all state in {folder}: databases, models, logs, secrets?", abort=True
        )
    if (state := file.read()) is not None:
        end_leftovers(state)
    with progress("Deleting") as advance:
        for number, name in enumerate(_CONTENT):
            advance(number, len(_CONTENT), name)
            _delete(folder / name)
    if not any(folder.iterdir()):
        folder.rmdir()
    console.print(f"Deleted the state in {folder}.")


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
