"""One pass: a hundred engines fly their cycles while everything is counted."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from rich.live import Live
from sqlalchemy.exc import SQLAlchemyError

from core.db.repositories.stored import stored
from core.db.session import Database
from core.settings import Settings
from mlops.datasets.turbofan import SENSORS
from mlops.datasets.turbofan import Engine as Record
from workers.cli.terminal import console, progress
from workers.demo.client import ApiClient, within
from workers.demo.engine import Engine, Pacer, Tally, run_fleet
from workers.demo.figures import Figures, line, view
from workers.demo.latency import LatencyMeter
from workers.demo.memory import Memory
from workers.demo.prepare import CYCLE_HOURS, until_active
from workers.demo.receiver import Receiver
from workers.demo.verdict import Answer

_STATUSES = ("pending", "running", "waiting", "completed", "failed", "cancelled")
_ACTIVE = {"pending", "running", "waiting"}
_SETTLE = 180.0
"""Seconds that runs and webhooks have after the last cycle."""
_CALM = 3.0
"""Seconds without anything under way after which all is done."""
_REFRESH = 0.5
_LINE_EVERY = 10.0
_WATCHED = 10
"""Engines whose data a WebSocket client follows, to measure the latency."""
_CONNECT = 120.0


class _Display:
    """A live view on a terminal; elsewhere a line now and then, and the whole at the end."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._next_line = time.monotonic() + _LINE_EVERY

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        else:
            console.print(view(self._figures))

    def show(self) -> None:
        """Show the figures as they are now."""
        if self._live is not None:
            self._live.update(view(self._figures))
        elif time.monotonic() >= self._next_line:
            console.print(line(self._figures))
            self._next_line += _LINE_EVERY


class Replay:
    """A pass and its figures.

    Args:
        settings: The platform.
        tenant_id: The demo's tenant.
        api: Signed in as somebody of that tenant.
        receiver: Where the webhooks arrive.
        automation: The automation whose runs are counted.
        memory: Ids and keys of the engines.
        records: The engines of the data set.
        rate: Messages a second.
    """

    def __init__(
        self,
        settings: Settings,
        tenant_id: UUID,
        api: ApiClient,
        receiver: Receiver,
        automation: UUID,
        memory: Memory,
        records: Sequence[Record],
        rate: float,
    ) -> None:
        self._settings = settings
        self._tenant_id = tenant_id
        self._api = api
        self._receiver = receiver
        self._runs_path = f"/workflows/{automation}/executions"
        self._memory = memory
        self._records = records
        self._database = Database.connect(settings, "api")
        self._meter = LatencyMeter()
        self._pacer = Pacer(rate)
        self._earlier: dict[str, int] = {}
        self._first = max(memory.last_ms + 1, time.time_ns() // 1_000_000)
        self.figures = Figures(total=sum(len(one.cycles) for one in records), tally=Tally())
        self.values = self.figures.total * len(SENSORS)
        """Values that should be stored."""
        self.engines = [self._engine(record) for record in records]

    def _engine(self, record: Record) -> Engine:
        device_id = self._memory.engines[record.unit]
        return Engine(
            device_id,
            self._memory.keys[device_id],
            self._settings.plain_mqtt_endpoint,
            [dict(zip(SENSORS, row, strict=True)) for row in record.cycles.tolist()],
            self._pacer,
            self.figures.tally,
            after=self._first,
            overhauled=self._memory.passes > 1,
        )

    @asynccontextmanager
    async def flying(self, bulk: str | None) -> AsyncGenerator[None]:
        """Have the engines connected, and all that counts running, while the block runs.

        Args:
            bulk: The provisioning that the engines' first connections complete.

        Raises:
            DemoError: The engines could not connect or were not activated in time.
        """
        self._earlier = await self._runs()
        await self._clear_alarms()
        watched = [engine.device_id for engine in self.engines[:_WATCHED]]
        url = self._settings.api_url.replace("http", "ws", 1) + "/ws/device-data"
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(run_fleet(self.engines)),
                    group.create_task(self._meter.run(url, self._api.token, watched)),
                ]
                await self._connect(bulk)
                yield
                for task in tasks:
                    task.cancel()
        finally:
            await self._database.close()

    async def _connect(self, bulk: str | None) -> None:
        with progress("Connecting 100 engines") as advance:
            async with within(_CONNECT, "connecting the engines"):
                while (connected := self.figures.tally.connected) < len(self.engines):
                    advance(connected, len(self.engines), f"{connected} connected")
                    await asyncio.sleep(0.2)
        if bulk is not None:
            with progress("Provisioning 100 engines") as advance:
                await until_active(self._api, bulk, advance)

    async def fly(self) -> None:
        """Let the engines fly all cycles, and show how it goes, until everything has settled."""
        self._pacer.start()
        began = time.monotonic()
        with _Display(self.figures) as display:
            calm_since: float | None = None
            deadline: float | None = None
            while True:
                await self._count(began)
                display.show()
                now = time.monotonic()
                if self._flown:
                    deadline = deadline or now + _SETTLE
                calm_since = (calm_since or now) if self._settled else None
                if calm_since is not None and now - calm_since >= _CALM:
                    return
                if deadline is not None and now > deadline:
                    console.print("[yellow]Not everything came to an end in time.[/]")
                    return
                await asyncio.sleep(_REFRESH)

    @property
    def last_ms(self) -> int:
        """Time stamp of the newest cycle, epoch ms."""
        return max(engine.last_time for engine in self.engines)

    @property
    def _flown(self) -> bool:
        return all(engine.finished.is_set() for engine in self.engines)

    @property
    def _settled(self) -> bool:
        return (
            self._flown
            and self.figures.stored == self.figures.total
            and not _ACTIVE & self.figures.runs.keys()
        )

    async def ask(self) -> list[Answer]:
        """Ask the model about every engine after its last cycle."""
        slots = asyncio.Semaphore(4)
        answers: list[Answer] = []

        async def one(record: Record) -> None:
            async with slots:
                answer = await self._api.post(
                    "/analytics/predict",
                    {
                        "device_id": str(self._memory.engines[record.unit]),
                        "prediction_type": "failure",
                    },
                    repeat=True,
                )
            hours = answer["prediction"]["time_to_event"]
            if hours is not None:
                answers.append(
                    Answer(record.unit, len(record.cycles), hours / CYCLE_HOURS, record.remaining)
                )
            advance(len(answers), len(self._records), "")

        with progress("Asking the model about every engine") as advance:
            async with asyncio.TaskGroup() as group:
                for record in self._records:
                    group.create_task(one(record))
        return answers

    async def _count(self, began: float) -> None:
        figures = self.figures
        await self._count_stored()
        counts = await self._runs()
        figures.runs = {
            status: new
            for status, count in counts.items()
            if (new := count - self._earlier[status]) > 0
        }
        figures.alarms = await self._total("/alerts", status="raised")
        received = self._receiver.received
        figures.verified, figures.rejected = len(received.bodies), received.rejected
        if not self._flown:
            figures.rate = figures.tally.acknowledged / (time.monotonic() - began)
        figures.latency = self._meter.percentiles()

    async def _count_stored(self) -> None:
        first = datetime.fromtimestamp(self._first / 1000, UTC)
        last = datetime.fromtimestamp(self.last_ms / 1000, UTC)
        devices = [engine.device_id for engine in self.engines]
        try:
            async with self._database.transaction(self._tenant_id) as session:
                count = await stored(session, devices, first, last)
        except (OSError, SQLAlchemyError):
            return  # PostgreSQL restarts: the figures of a moment ago stand
        self.figures.stored, self.figures.values = count

    async def _runs(self) -> dict[str, int]:
        return {status: await self._total(self._runs_path, status=status) for status in _STATUSES}

    async def _total(self, path: str, **wanted: str) -> int:
        answer = await self._api.get(path, limit=1, **wanted)
        return answer["pagination"]["total"]

    async def _clear_alarms(self) -> None:
        """An overhaul ends the alarms of the life before."""
        while alerts := (await self._api.get("/alerts", status="raised", limit=500))["alerts"]:
            for alert in alerts:
                await self._api.post(f"/alerts/{alert['id']}/clear", repeat=True)
