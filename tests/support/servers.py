"""Starts the embedded servers for a test session."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from core.settings import Settings
from workers.stack.service import Service


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(service: Service, settings: Settings, timeout: float = 90) -> Generator[int]:
    """Run one service until the end of the block; yields its process id."""
    if service.prepare is not None:
        service.prepare()
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / f"{service.name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            service.command,
            env=os.environ | service.environment,
            user=service.user,
            group=service.user,
            extra_groups=[] if service.user else None,
            cwd=service.working_directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        asyncio.run(_ready(service, process, timeout, log.read_text))
        yield process.pid
    finally:
        process.send_signal(service.stop_signal)
        try:
            process.wait(service.stop_timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


async def _ready(
    service: Service,
    process: "subprocess.Popen[bytes]",
    timeout: float,
    log: Callable[[], str],
) -> None:
    deadline = time.monotonic() + timeout
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{service.name} ended with {process.returncode}: {log()[-3000:]}")
        try:
            await service.probe()
        except Exception:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return
