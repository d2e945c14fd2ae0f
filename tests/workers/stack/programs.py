"""Small programs that stand in for servers, and services around them."""

import asyncio
import sys
from pathlib import Path

from workers.stack.service import Service

# Listens on a Unix socket in the working directory, notes its start, its signal and its end.
_SERVER = """
import asyncio, os, signal, subprocess, sys
name, delay, stop_delay = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
def note(what):
    with open("events", "a") as file:
        file.write(f"{what} {name}\\n")
async def main():
    note("start")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if os.environ.get("WITH_CHILD"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(f"{name}.child", "w") as file:
            file.write(str(child.pid))
    await asyncio.sleep(delay)
    server = await asyncio.start_unix_server(lambda r, w: w.close(), f"{name}.sock")
    await stop.wait()
    note("term")
    await asyncio.sleep(stop_delay)
    note("end")
asyncio.run(main())
"""


def server(
    folder: Path,
    name: str,
    *,
    needs: tuple[str, ...] = (),
    delay: float = 0,
    stop_delay: float = 0,
    stop_timeout: float = 10,
    environment: dict[str, str] | None = None,
    awaited: bool = True,
) -> Service:
    """Describe a server that is ready `delay` seconds after its start."""
    socket = folder / f"{name}.sock"

    async def probe() -> None:
        _, writer = await asyncio.open_unix_connection(socket)
        writer.close()
        await writer.wait_closed()

    return Service(
        name=name,
        command=(sys.executable, "-S", "-c", _SERVER, name, str(delay), str(stop_delay)),
        probe=probe,
        prepare=lambda: socket.unlink(missing_ok=True),
        needs=needs,
        working_directory=folder,
        stop_timeout=stop_timeout,
        environment=environment or {},
        awaited=awaited,
    )


def program(name: str, code: str, *, needs: tuple[str, ...] = (), awaited: bool = True) -> Service:
    """Describe a process that never answers and runs `code`."""

    async def probe() -> None:
        raise ConnectionRefusedError("nobody listens")

    return Service(name, (sys.executable, "-S", "-c", code), probe, needs=needs, awaited=awaited)


def events(folder: Path) -> list[str]:
    """Return what the servers noted."""
    file = folder / "events"
    return file.read_text().splitlines() if file.exists() else []
