"""The `iotlinker` command as a person meets it."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.servers import free_port
from tests.support.waiting import eventually
from tests.workers.stack.programs import events
from workers.cli import main
from workers.stack.state import PartState, StackState, StateFile, Status


@dataclass
class Result:
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]

COMMANDS = ("up", "demo", "status", "down", "reset", "user", "migrate", "worker", "broker", "api")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in [name for name in os.environ if name.startswith("IOTLINKER_")]:
        monkeypatch.delenv(name)  # of servers that other tests share
    monkeypatch.setenv("IOTLINKER_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["iotlinker", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    return command


def state_of(home: Path) -> Path:
    """Make a home that looks as if the platform had run in it."""
    for folder in ("postgres", "logs"):
        (home / folder).mkdir(parents=True)
        (home / folder / "file").touch()
    (home / "secrets.json").touch()
    return home


def test_help_names_every_command(run: Run) -> None:
    out = run("--help").out
    for name in [
        "up",
        "demo",
        "status",
        "down",
        "reset",
        "user",
        "migrate",
        "worker",
        "broker",
        "api",
    ]:
        assert f"  {name} " in out


def test_a_setting_of_the_wrong_form_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOTLINKER_API_PORT", "web")
    result = run("migrate", "up")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "IOTLINKER_API_PORT" in result.err


def test_two_services_on_one_port_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    port = str(free_port())
    monkeypatch.setenv("IOTLINKER_API_PORT", port)
    monkeypatch.setenv("IOTLINKER_MLFLOW_PORT", port)
    result = run("up")
    assert result.code == 1
    assert f"IOTLINKER_MLFLOW_PORT and IOTLINKER_API_PORT are both set to {port}" in result.err


def test_a_server_that_is_down_is_an_error_in_words(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOTLINKER_DATABASE_PORT", "1")
    result = run("user", "list")
    assert result.code == 1
    assert "Is the platform running?" in result.err
    assert "Traceback" not in result.err


def test_status_of_nothing_says_how_to_start_and_leaves_no_trace(run: Run, home: Path) -> None:
    result = run("status")
    assert result.code == 1
    assert "not running" in result.out
    assert not home.exists()


def test_down_without_a_platform_is_an_error(run: Run) -> None:
    result = run("down")
    assert result.code == 1
    assert "not running" in result.err


def test_status_shows_what_runs(run: Run, home: Path) -> None:
    file = StateFile(home)
    parts = [
        PartState("api", True, status=Status.READY, pid=42, ports=(8000,), restarts=2),
        PartState("mlflow", True, awaited=False, status=Status.STARTING),
    ]
    with file.lock():
        file.write(StackState(os.getpid(), 0, parts, {"API docs": "http://127.0.0.1:8000/docs"}))
        shown = run("status")
        assert shown.code == 0
        for word in ("api", "ready", "42", "8000", "2", "http://127.0.0.1:8000/docs"):
            assert word in shown.out
        parts[0].status = Status.RESTARTING
        file.write(StackState(os.getpid(), 0, parts))
        assert run("status").code == 1


# A platform of one server, in a process of its own.
PLATFORM = """
import asyncio, signal, sys
from pathlib import Path
from tests.workers.stack.programs import server
from workers.stack.supervisor import Supervisor
async def main():
    home = Path(sys.argv[1])
    supervisor = Supervisor([server(home, "api")], home)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, supervisor.stop)
    await supervisor.run()
asyncio.run(main())
"""


async def test_down_ends_a_platform_of_another_process(run: Run, home: Path) -> None:
    await asyncio.to_thread(home.mkdir)
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", PLATFORM, str(home))
    try:
        await eventually(lambda: (s := StateFile(home).read()) is not None and s.ready)
        assert run("status").code == 0
        result = run("down")
    finally:
        if supervisor.returncode is None:
            supervisor.kill()
        await supervisor.wait()
    assert result.code == 0
    assert events(home) == ["start api", "term api", "end api"]


def test_reset_asks_first(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_of(home)
    monkeypatch.setattr("builtins.input", lambda _prompt="": "n")
    result = run("reset")
    assert result.code == 1
    assert (home / "postgres" / "file").exists()


def test_reset_removes_the_state_and_nothing_else(run: Run, home: Path) -> None:
    state_of(home)
    (home / "my-notes.txt").touch()
    assert run("reset", "--yes").code == 0
    assert [file.name for file in home.iterdir()] == ["my-notes.txt"]


def test_reset_removes_an_otherwise_empty_home(run: Run, home: Path) -> None:
    state_of(home)
    assert run("reset", "--yes").code == 0
    assert not home.exists()


def test_reset_refuses_a_folder_that_is_no_home(run: Run, home: Path) -> None:
    (home / "logs").mkdir(parents=True)
    assert run("reset", "--yes").code == 1
    assert (home / "logs").exists()


def test_reset_refuses_while_the_platform_runs(run: Run, home: Path) -> None:
    state_of(home)
    with StateFile(home).lock():
        result = run("reset", "--yes")
    assert result.code == 1
    assert "iotlinker down" in result.err
