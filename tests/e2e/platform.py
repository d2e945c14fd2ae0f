"""A whole platform in processes of its own, and a hand to kill them with."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.settings import Settings, load_settings
from tests.support.servers import free_port
from tests.support.waiting import eventually
from workers.stack.state import PartState, StateFile, Status

_PORTS = (
    "DATABASE_PORT",
    "VALKEY_PORT",
    "TEMPORAL_PORT",
    "TEMPORAL_UI_PORT",
    "API_PORT",
    "BROKER_PORT",
    "BROKER_METRICS_PORT",
)


def environment(home: Path) -> dict[str, str]:
    """Return settings with free ports; webhooks may reach loopback."""
    ports = {f"IOTLINKER_{name}": str(free_port()) for name in _PORTS}
    return ports | {
        "IOTLINKER_HOME": str(home),
        "IOTLINKER_OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
        # Nothing here trains, and an address means that it is not started.
        "IOTLINKER_MLFLOW_URL": "http://127.0.0.1:9",
    }


class Platform:
    """`iotlinker up` on one home, by settings that other tests never see."""

    def __init__(self, home: Path) -> None:
        self._environment = environment(home)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._environment.items():
                patch.setenv(name, value)
            self.settings: Settings = load_settings(home)
        self._file = StateFile(home)
        self._log = home / "up.log"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        process = self._launch()

        def ready() -> bool:
            assert process.poll() is None, self._log.read_text()[-5000:]
            state = self._file.read()
            return state is not None and state.supervisor == process.pid and state.ready

        await eventually(ready, timeout=120, interval=0.2)

    def _launch(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "up"],
                env=os.environ | self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._process

    async def stop(self) -> None:
        """Stop it as Ctrl-C does and wait for its end."""
        process = self._process
        if process is None:
            return
        self._process = None
        process.send_signal(signal.SIGINT)
        await eventually(lambda: process.poll() is not None, timeout=90, interval=0.1)
        assert process.returncode == 0, self._log.read_text()[-5000:]

    def end(self) -> None:
        """Leave nothing behind, however the test went."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(90)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    async def kill(self, name: str) -> None:
        """`kill -9` one part and wait until the supervisor has it running again."""
        before = self.part(name)
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)

        def again() -> bool:
            now = self.part(name)
            return now.restarts > before.restarts and now.status is Status.READY

        await eventually(again, timeout=90, interval=0.1)

    def part(self, name: str) -> PartState:
        """Return one part as the supervisor sees it."""
        state = self._file.read()
        assert state is not None
        return next(part for part in state.parts if part.name == name)
