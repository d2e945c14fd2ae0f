"""Other people's brokers, and ingest processes that consume them."""

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from broker.external.link import Address, Link, LinkLostError
from core.settings import Settings
from core.settings.processes import IngestSettings
from tests.support.mqtt_brokers import ended, mosquitto, mosquitto_binary, nats
from tests.support.servers import free_port
from tests.support.waiting import eventually


@dataclass(frozen=True, slots=True)
class Other:
    """A broker of somebody else.

    Attributes:
        name: mosquitto or nats.
        port: Its port.
        shared: It knows shared subscriptions. NATS takes `$share/…` for a topic like any other and
            delivers nothing, so there one ingest process consumes and the others stand by.
    """

    name: str
    port: int
    shared: bool


@pytest.fixture(scope="module", params=["mosquitto", "nats"])
def other(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Other]:
    """Each of the brokers."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "nats":
        with nats(folder) as port:
            yield Other("nats", port, shared=False)
        return
    if mosquitto_binary() is None:
        pytest.skip("Mosquitto is not installed (Debian: apt-get install mosquitto)")
    with mosquitto(folder) as port:
        yield Other("mosquitto", port, shared=True)


@dataclass(slots=True)
class IngestProcess:
    """A running `iotlinker ingest`."""

    process: "subprocess.Popen[bytes]"
    metrics_port: int
    log: Path

    async def health(self) -> str:
        """Return `ok`, or what is wrong."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
                answer = await client.get(f"http://127.0.0.1:{self.metrics_port}/healthz")
        except httpx.TransportError:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return "does not answer"
        return "ok" if answer.status_code == 200 else answer.text

    async def metric(self, name: str) -> float:
        """Return one of its metrics, the sum of its labels."""
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            answer = await client.get(f"http://127.0.0.1:{self.metrics_port}/metrics")
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in answer.raise_for_status().text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        await ended(self.process)

    async def stop(self) -> None:
        """Let it end in order."""
        self.process.terminate()
        assert await ended(self.process) == 0, self.log.read_text()[-3000:]


StartIngest = Callable[..., Awaitable[IngestProcess]]


@pytest.fixture
async def start_ingest(
    postgres_server: Settings, valkey_server: Settings, other: Other, tmp_path: Path
) -> AsyncGenerator[StartIngest]:
    """Starts ingest processes of one group; what runs at the end is ended."""
    started: list[IngestProcess] = []
    group = f"t{uuid4().hex[:8]}"

    async def start(*, ready: bool = True, **more: Any) -> IngestProcess:
        port = free_port()
        log = tmp_path / f"ingest-{len(started)}.log"
        environment = {
            "HOME": str(postgres_server.home),
            "INGEST_METRICS_PORT": port,
            "INGEST_GROUP": group,
            "INGEST_SHARED": str(other.shared).lower(),
            "INGEST_SETTLE": 0 if other.shared else 4,  # NATS repeats after newer messages
            **more,
        }
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: ASYNC220  (only started here)
                [
                    sys.executable,
                    "-m",
                    "workers.cli",
                    "ingest",
                    "--mqtt",
                    f"mqtt://127.0.0.1:{other.port}",
                ],
                env=os.environ | {f"IOTLINKER_{k}": str(v) for k, v in environment.items()},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        ingest = IngestProcess(process, port, log)
        started.append(ingest)
        if ready:

            async def healthy() -> bool:
                return await ingest.health() == "ok"

            await eventually(healthy, timeout=30)
        return ingest

    yield start
    for ingest in started:
        if ingest.process.poll() is None:
            ingest.process.terminate()
    for ingest in started:
        try:
            await ended(ingest.process, 15)
        except subprocess.TimeoutExpired:
            await ingest.kill()


class Publisher:
    """A device's or many devices' client at the other broker."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.received: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(1000)

    async def send(self, topic: str, document: Any) -> None:
        """Publish at QoS 1; returns once the broker has acknowledged."""
        await self.link.publish(topic, json.dumps(document).encode())

    async def next(self) -> tuple[str, Any]:
        """Return the next message: topic and document."""
        async with asyncio.timeout(10):
            return await self.received.get()


@asynccontextmanager
async def client(other: Other, *filters: str, five: bool = False) -> AsyncGenerator[Publisher]:
    """Connect to the other broker as devices do."""
    settings = IngestSettings(mqtt=f"mqtt://127.0.0.1:{other.port}")
    link = await Link.open(
        Address.of(settings), f"device-{uuid4().hex}", settings, 65_536, five=five, clean=True
    )
    publisher = Publisher(link)

    async def take(of: Link, messages: list[Any]) -> None:
        for message in messages:
            publisher.received.put_nowait((message.topic.decode(), json.loads(message.payload)))
            of.released([message.packet_id])

    async def serve() -> None:
        with suppress(LinkLostError):
            await link.serve(take, filters)

    task = asyncio.create_task(serve())
    try:
        await asyncio.sleep(0)
        yield publisher
    finally:
        await link.close()
        task.cancel()
        await asyncio.wait([task])


def with_ingest(settings: Settings, **changes: Any) -> Settings:
    """Return settings with these changes to ingest's."""
    return dataclasses.replace(settings, ingest=settings.ingest.model_copy(update=changes))


def telemetry(device_id: UUID, ts: int, value: float) -> tuple[str, dict[str, Any]]:
    """Return topic and document of one measurement."""
    return f"v1/devices/{device_id}/telemetry", {"ts": ts, "values": {"t": value}}
