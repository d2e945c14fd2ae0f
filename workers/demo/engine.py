"""A simulated engine: connects by its own key, replays its cycles, answers commands.

1. A cycle's time stamp is chosen once, before it is first sent, and grows with each cycle: sent
   again after a lost connection it is the same measurement, which the platform stores once.
2. A cycle counts as acknowledged when its PUBACK came, and only then does the next one follow.
3. A command that comes twice (QoS 1) is answered twice and counted once.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

import aiomqtt

from core import topics
from mlops.cycles import OVERHAUL

_LONGEST_PAUSE = 5.0
_TIMEOUT = 20.0
_log = logging.getLogger("demo.engine")
# The client's own logger tells of every lost connection, which is expected here.
_quiet = logging.getLogger("demo.mqtt")
_quiet.setLevel(logging.CRITICAL)


class Pacer:
    """Gives out slots so that all engines together send at one rate, from `start` on."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._next = 0.0
        self._started = asyncio.Event()

    def start(self) -> None:
        """Let the engines begin."""
        self._started.set()

    async def slot(self) -> None:
        """Wait for the next slot; slots that nobody took in time are gone."""
        await self._started.wait()
        now = time.monotonic()
        at = max(self._next, now)
        self._next = at + self._gap
        if at > now:
            await asyncio.sleep(at - now)


@dataclass(slots=True)
class Tally:
    """What the fleet did, in messages.

    Attributes:
        sent: Cycles sent at least once.
        resent: Sent again since the connection was lost before the PUBACK.
        acknowledged: Cycles whose PUBACK came.
        connected: Engines that are connected now.
        lost: Connections that were lost or refused.
        commands: Commands answered, each counted once.
    """

    sent: int = 0
    resent: int = 0
    acknowledged: int = 0
    connected: int = 0
    lost: int = 0
    commands: int = 0


class Engine:
    """One engine of the fleet.

    Args:
        device_id: The device.
        key: Its key.
        endpoint: `mqtt://host:port`.
        cycles: The JSON objects of values to send, in order.
        pacer: Shared by the fleet.
        tally: Shared by the fleet.
        after: The engine's last time stamp so far, epoch ms.
        overhauled: The engine flew before; an event tells that a new life begins.
    """

    def __init__(
        self,
        device_id: UUID,
        key: str,
        endpoint: str,
        cycles: Sequence[dict[str, float]],
        pacer: Pacer,
        tally: Tally,
        *,
        after: int = 0,
        overhauled: bool = False,
    ) -> None:
        self.device_id = device_id
        self.finished = asyncio.Event()
        """Set once every cycle is acknowledged."""
        self.last_time = after
        """Time stamp of the newest cycle, epoch ms."""
        self._key = key
        address = urlsplit(endpoint)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 1883
        self._cycles = cycles
        self._pacer = pacer
        self._tally = tally
        self._next = 0
        self._unacknowledged: bytes | None = None
        self._overhauled = overhauled
        self._answered: set[str] = set()

    async def run(self) -> None:
        """Stay connected until cancelled; connect again whenever the connection is lost."""
        pause = 0.25
        while True:
            began = time.monotonic()
            try:
                await self._connection()
            except* (aiomqtt.MqttError, OSError) as errors:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    # A task group that was cancelled while a child failed raises the failure
                    # alone; going on would make the cancellation forgotten.
                    raise asyncio.CancelledError from errors
                self._tally.lost += 1
                _log.info("connection lost", extra={"device": self.device_id, "why": str(errors)})
            if time.monotonic() - began > _LONGEST_PAUSE:
                pause = 0.25
            # Spread out: a hundred engines must not come back at one instant.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  (no secret)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _connection(self) -> None:
        async with aiomqtt.Client(
            self._host,
            self._port,
            identifier=str(self.device_id),
            username=str(self.device_id),
            password=self._key,
            timeout=_TIMEOUT,
            keepalive=30,
            max_queued_incoming_messages=1000,
            logger=_quiet,
        ) as client:
            self._tally.connected += 1
            try:
                await client.subscribe(topics.command(self.device_id, "+"), qos=1)
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._answer_commands(client))
                    group.create_task(self._replay(client))
                    # Not in the group's exit: a child that fails while this task waits there
                    # leaves it marked as cancelled for good (Python 3.11), see `run`.
                    await asyncio.Event().wait()
            finally:
                self._tally.connected -= 1

    async def _replay(self, client: aiomqtt.Client) -> None:
        await self._pacer.slot()
        if self._overhauled:
            self.last_time = max(self.last_time + 1, _now())
            event = {"name": OVERHAUL, "ts": self.last_time}
            await client.publish(topics.events(self.device_id), json.dumps(event), qos=1)
            self._overhauled = False
        topic = topics.telemetry(self.device_id)
        while self._next < len(self._cycles):
            await self._pacer.slot()
            if self._unacknowledged is None:
                self.last_time = max(self.last_time + 1, _now())
                self._unacknowledged = json.dumps(
                    {"ts": self.last_time, "values": self._cycles[self._next]}
                ).encode()
                self._tally.sent += 1
            else:
                self._tally.resent += 1
            await client.publish(topic, self._unacknowledged, qos=1)
            self._unacknowledged = None
            self._next += 1
            self._tally.acknowledged += 1
        self.finished.set()

    async def _answer_commands(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if not isinstance(message.payload, bytes):
                continue
            command = json.loads(message.payload)
            answer = {"id": command["id"], "response": {"accepted": True, **command["payload"]}}
            await client.publish(f"{message.topic}/response", json.dumps(answer), qos=1)
            if command["id"] not in self._answered:
                self._answered.add(command["id"])
                self._tally.commands += 1


def _now() -> int:
    """Return epoch milliseconds."""
    return time.time_ns() // 1_000_000


async def run_fleet(engines: Sequence[Engine]) -> None:
    """Run engines until cancelled."""
    async with asyncio.TaskGroup() as group:
        for engine in engines:
            group.create_task(engine.run(), name=str(engine.device_id))
