"""The whole data path under the platform's own supervisor: PostgreSQL, Valkey, broker, API."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import httpx
import psutil

from core.settings import Settings
from tests.support.persistent import PersistentLoad
from tests.support.waiting import eventually
from workers.stack.plan import plan
from workers.stack.state import PartState, Status
from workers.stack.supervisor import Supervisor

PARTS: Final = ("postgres", "valkey", "roles", "schema", "api", "broker")


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds of a load.

    Attributes:
        rows: Rows of its devices.
        twice: Rows beyond the first of the same device and time.
        missing: Acknowledged messages of which there is no row.
        altered: Rows with another value than was sent.
    """

    rows: int
    twice: int
    missing: int
    altered: int


class DataPath:
    """Its processes while they run."""

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self.settings = settings
        self._supervisor = supervisor

    def part(self, name: str) -> PartState:
        """Return a part as its supervisor sees it now."""
        return next(part for part in self._supervisor.state.parts if part.name == name)

    def pid(self, name: str) -> int:
        """Return the process of a part that runs."""
        pid = self.part(name).pid
        assert pid is not None, f"{name} does not run"
        return pid

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a part; SIGSTOP and SIGCONT go to all its processes, as it hangs whole.

        PostgreSQL's sessions lead groups of their own, so a signal to its group misses them.
        """
        process = psutil.Process(self.pid(name))
        process.send_signal(number)
        if number in (signal.SIGSTOP, signal.SIGCONT):
            for child in process.children(recursive=True):
                child.send_signal(number)

    async def restarted(self, name: str, restarts: int, timeout: float = 90) -> None:
        """Wait until a part is ready again after more than `restarts` restarts."""

        def again() -> bool:
            part = self.part(name)
            return part.restarts > restarts and part.status is Status.READY

        await eventually(again, timeout=timeout, interval=0.05)

    async def metric(self, name: str) -> float:
        """Return one of the broker's metrics, the sum of its labels."""
        address = f"http://127.0.0.1:{self.settings.broker.metrics_port}/metrics"
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answer = (await client.get(address)).raise_for_status()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in answer.text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )


async def stored(settings: Settings, load: PersistentLoad) -> Stored:
    """Compare what a load says with what the database holds."""
    connection = await asyncpg.connect(settings.admin_database_url, timeout=30)
    try:
        total = Stored(0, 0, 0, 0)
        for sender in load.senders:
            one = await _stored(connection, sender.device_id, sender.first_ms, sender.acknowledged)
            total = Stored(
                total.rows + one.rows,
                total.twice + one.twice,
                total.missing + one.missing,
                total.altered + one.altered,
            )
        return total
    finally:
        await connection.close(timeout=30)


async def _stored(
    connection: "asyncpg.Connection[asyncpg.Record]",
    device_id: UUID,
    first_ms: int,
    acknowledged: int,
) -> Stored:
    row = await connection.fetchrow(
        """
        WITH mine AS (
            SELECT (extract(epoch FROM time) * 1000)::bigint - $2::bigint AS number, values
            FROM telemetry WHERE device_id = $1 AND time >= to_timestamp($2::bigint / 1000.0)
        )
        SELECT count(*) AS rows, count(DISTINCT number) AS numbers,
               count(DISTINCT number) FILTER (WHERE number < $3::bigint) AS acknowledged,
               count(*) FILTER (WHERE values <> ARRAY[100 + number % 900]::float8[]) AS altered
        FROM mine
        """,
        device_id,
        first_ms,
        acknowledged,
        timeout=600,
    )
    assert row is not None
    return Stored(
        rows=row["rows"],
        twice=row["rows"] - row["numbers"],
        missing=acknowledged - row["acknowledged"],
        altered=row["altered"],
    )


@asynccontextmanager
async def data_path(settings: Settings, parts: Sequence[str] = PARTS) -> AsyncGenerator[DataPath]:
    """Run these parts of the platform until the end of the block.

    Their processes read the environment, so what `settings` were loaded from must still be there.
    """
    supervisor = Supervisor([part for part in plan(settings) if part.name in parts], settings.home)
    running = asyncio.create_task(supervisor.run())
    try:
        ready = asyncio.create_task(supervisor.ready.wait())
        await asyncio.wait({running, ready}, timeout=120, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            supervisor.stop()
            await running  # says why
            raise TimeoutError("the data path was not ready in two minutes")
        yield DataPath(settings, supervisor)
    finally:
        supervisor.stop()
        await asyncio.wait({running}, timeout=120)
