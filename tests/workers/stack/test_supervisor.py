"""The supervisor: order, restarts, failures, and nobody left behind."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from core.errors import ConfigurationError, ConflictError
from tests.support.servers import free_port
from tests.support.waiting import eventually
from tests.workers.stack.programs import events, program, server
from workers.stack.process import Backoff
from workers.stack.service import Part, Port, Service, Step
from workers.stack.state import PartState, StateFile, Status
from workers.stack.supervisor import Patience, StartError, Supervisor

PATIENCE = Patience(start=10, attempts=2, probe=1, starting=0.02, running=0.05, silence=0.5)


def make(
    home: Path, *parts: Part, listener: Callable[[PartState], None] | None = None
) -> Supervisor:
    return Supervisor(
        parts,
        home,
        patience=PATIENCE,
        backoff=lambda: Backoff(first=0.02, longest=0.1),
        listener=listener,
    )


@asynccontextmanager
async def ready(supervisor: Supervisor) -> AsyncGenerator[Supervisor]:
    """Run `supervisor` from ready to an orderly stop."""
    async with asyncio.timeout(20):
        running = asyncio.create_task(supervisor.run())
        waiting = asyncio.create_task(supervisor.ready.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            waiting.cancel()
            await running
        try:
            yield supervisor
        finally:
            supervisor.stop()
            await running


def part(supervisor: Supervisor, name: str) -> PartState:
    return next(part for part in supervisor.state.parts if part.name == name)


def pid(supervisor: Supervisor, name: str) -> int:
    found = part(supervisor, name).pid
    assert found is not None
    return found


async def test_a_part_starts_after_those_it_needs_and_stops_before_them(tmp_path: Path) -> None:
    done: list[str] = []

    async def step() -> None:
        done.append("schema")
        assert events(tmp_path) == ["start database"]

    parts = (
        server(tmp_path, "api", needs=("schema",)),
        Step("schema", step, needs=("database",)),
        server(tmp_path, "database", delay=0.2),
    )
    async with ready(make(tmp_path, *parts)):
        assert done == ["schema"]
        assert events(tmp_path) == ["start database", "start api"]
    assert events(tmp_path)[2:] == ["term api", "end api", "term database", "end database"]


async def test_parts_without_a_tie_start_together(tmp_path: Path) -> None:
    both_started: list[list[str]] = []

    def listen(state: PartState) -> None:
        if state.status is Status.READY:
            both_started.append(events(tmp_path))

    parts = (server(tmp_path, "one", delay=0.5), server(tmp_path, "two", delay=0.5))
    async with ready(make(tmp_path, *parts, listener=listen)):
        assert sorted(both_started[0]) == ["start one", "start two"]


async def test_the_platform_is_ready_without_a_part_that_is_not_awaited(tmp_path: Path) -> None:
    parts = (server(tmp_path, "api"), program("late", "import time; time.sleep(60)", awaited=False))
    async with ready(make(tmp_path, *parts)) as supervisor:
        assert part(supervisor, "late").status is not Status.READY


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    async with ready(make(tmp_path, server(tmp_path, "api"))) as supervisor:
        first = pid(supervisor, "api")
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: part(supervisor, "api").restarts == 1)
        await eventually(lambda: part(supervisor, "api").status is Status.READY)
        assert pid(supervisor, "api") != first
    assert events(tmp_path) == ["start api", "start api", "term api", "end api"]


async def test_what_a_killed_process_started_ends_with_it(tmp_path: Path) -> None:
    service = server(tmp_path, "mlflow", environment={"WITH_CHILD": "1"})
    async with ready(make(tmp_path, service)) as supervisor:
        child = psutil.Process(int((tmp_path / "mlflow.child").read_text()))
        os.kill(pid(supervisor, "mlflow"), signal.SIGKILL)
        await eventually(lambda: not _runs(child))


async def test_a_process_that_no_longer_answers_is_started_again(tmp_path: Path) -> None:
    async with ready(make(tmp_path, server(tmp_path, "api"))) as supervisor:
        (tmp_path / "api.sock").unlink()
        await eventually(lambda: part(supervisor, "api").status is Status.SILENT)
        await eventually(lambda: part(supervisor, "api").restarts == 1)
        await eventually(lambda: part(supervisor, "api").status is Status.READY)


async def test_a_process_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    service = server(tmp_path, "stubborn", stop_delay=600, stop_timeout=0.3)
    async with ready(make(tmp_path, service)) as supervisor:
        process = psutil.Process(pid(supervisor, "stubborn"))
    assert not _runs(process)
    assert events(tmp_path) == ["start stubborn", "term stubborn"]


async def test_asking_twice_to_stop_kills_at_once(tmp_path: Path) -> None:
    service = server(tmp_path, "slow", stop_delay=600, stop_timeout=600)
    async with ready(make(tmp_path, service)) as supervisor:
        supervisor.stop()
        await eventually(lambda: "term slow" in events(tmp_path))
    assert "end slow" not in events(tmp_path)


async def test_a_process_that_never_comes_up_ends_the_start_with_its_last_words(
    tmp_path: Path,
) -> None:
    broken = program("broken", "raise SystemExit('no data folder')", needs=("fine",))
    with pytest.raises(StartError) as caught:
        async with ready(make(tmp_path, server(tmp_path, "fine"), broken)):
            pass
    assert "broken ended with exit code 1" in caught.value.detail
    assert "no data folder" in caught.value.detail
    assert "end fine" in events(tmp_path)


async def test_a_failing_step_ends_the_start_and_what_runs_already(tmp_path: Path) -> None:
    async def fail() -> None:
        raise ConnectionError("no route to the database")

    parts = (server(tmp_path, "one"), Step("schema", fail, needs=("one",)))
    with pytest.raises(StartError, match="schema failed: no route to the database"):
        async with ready(make(tmp_path, *parts)):
            pass
    assert events(tmp_path) == ["start one", "term one", "end one"]


async def test_a_step_with_patience_is_tried_again(tmp_path: Path) -> None:
    tries: list[int] = []

    async def reach() -> None:
        tries.append(1)
        if len(tries) < 2:
            raise ConnectionError("not yet")

    async with ready(make(tmp_path, Step("postgres", reach, retry=10))):
        assert len(tries) == 2


async def test_a_taken_port_is_named_with_its_service_setting_and_holder(tmp_path: Path) -> None:
    listener = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", free_port())
    port = listener.sockets[0].getsockname()[1]
    plain = server(tmp_path, "api")
    service = Service("api", plain.command, plain.probe, ports=(Port(port, "IOTLINKER_API_PORT"),))
    async with listener:
        with pytest.raises(ConfigurationError) as caught:
            await make(tmp_path, service).run()
    assert f"port {port} for api is taken by" in caught.value.detail
    assert f"(process {os.getpid()})" in caught.value.detail
    assert "IOTLINKER_API_PORT" in caught.value.detail
    assert events(tmp_path) == []


async def test_a_home_has_one_supervisor(tmp_path: Path) -> None:
    async with ready(make(tmp_path, server(tmp_path, "api"))):
        with pytest.raises(ConflictError, match=f"process {os.getpid()}"):
            await make(tmp_path, server(tmp_path, "api")).run()


async def test_the_state_file_tells_other_terminals_what_runs(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    assert file.read() is None
    assert not file.running()
    async with ready(make(tmp_path, server(tmp_path, "api"))) as supervisor:
        assert file.running()
        state = file.read()
        assert state is not None
        assert state.ready
        assert state.parts[0].pid == pid(supervisor, "api")
    assert not file.running()
    stopped = file.read()
    assert stopped is not None
    assert [(part.status, part.pid) for part in stopped.parts] == [(Status.STOPPED, None)]


# A supervisor in a process of its own, to be killed.
_RUN = """
import asyncio, sys
from pathlib import Path
from tests.workers.stack.programs import server
from tests.workers.stack.test_supervisor import make
folder = Path(sys.argv[1])
service = server(folder, "api", environment={"WITH_CHILD": "1"}, stop_delay=float(sys.argv[2]))
asyncio.run(make(folder, service).run())
"""


async def _start_and_kill(folder: Path, *, guard_too: bool) -> list[psutil.Process]:
    """Kill a supervisor; return the processes of its service."""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", _RUN, str(folder), "0")
    try:
        await eventually(lambda: (state := StateFile(folder).read()) is not None and state.ready)
        children = psutil.Process(supervisor.pid).children(recursive=True)
        guard = [child for child in children if "guard.py" in " ".join(child.cmdline())]
        services = [child for child in children if child not in guard]
        assert len(guard) == 1
        assert len(services) == 2
        if guard_too:
            guard[0].kill()
    finally:
        supervisor.kill()
        await supervisor.wait()
    return services


async def test_no_process_survives_a_killed_supervisor(tmp_path: Path) -> None:
    services = await _start_and_kill(tmp_path, guard_too=False)
    await eventually(lambda: not any(map(_runs, services)))
    assert events(tmp_path) == ["start api", "term api", "end api"]


async def test_the_next_start_ends_what_even_the_guard_could_not(tmp_path: Path) -> None:
    services = await _start_and_kill(tmp_path, guard_too=True)
    assert all(map(_runs, services))
    async with ready(make(tmp_path, server(tmp_path, "api"))):
        assert not any(map(_runs, services))


async def test_a_process_id_used_again_by_a_stranger_is_left_alone(tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import time; time.sleep(600)"
    )
    try:
        async with ready(make(tmp_path, server(tmp_path, "api"))):
            state = StateFile(tmp_path).read()
        assert state is not None
        state.parts[0].pid = stranger.pid
        state.parts[0].created = psutil.Process(stranger.pid).create_time() - 1000
        StateFile(tmp_path).write(state)
        async with ready(make(tmp_path, server(tmp_path, "api"))):
            assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_looking_whether_it_runs_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    with file.lock():
        assert file.running() == os.getpid()
    for _ in range(50):
        assert file.running() is None
        with file.lock():
            pass


async def test_a_state_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ready(make(tmp_path, server(tmp_path, "one"))) as supervisor:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(StateFile, "write", full)
        os.kill(pid(supervisor, "one"), signal.SIGKILL)

        def again() -> bool:
            one = part(supervisor, "one")
            return one.restarts == 1 and one.status is Status.READY

        await eventually(again)
        assert not supervisor.stopping.is_set()
        monkeypatch.undo()
