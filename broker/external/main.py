"""The ingest process: `iotlinker ingest --mqtt mqtts://…`; any number side by side."""

import asyncio
import gc
import signal
import time
from collections.abc import Coroutine
from typing import Any, Final

import structlog
import uvloop
from redis.exceptions import RedisError

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Devices
from broker.external.consumer import UPWARD, StoringConsumer
from broker.external.downlink import ExternalDownlink
from broker.external.fleet import Fleet
from broker.external.judge import Judge
from broker.external.leases import LeaseLostError, obtain
from broker.external.presence import Silence
from broker.external.subscriber import Subscriber
from broker.external.watch import Watch
from broker.ingest.batching import IngestQueue
from broker.ingest.flusher import Flusher
from broker.ingest.intake import Ingest
from broker.ingest.latest import LatestValues
from broker.ingest.profiles import Profiles
from broker.ingest.triggers import TriggerIndex
from broker.metrics import BrokerMetrics
from broker.notifications import Notifier
from broker.presence import Presence
from broker.status import status_server
from core import bus
from core.db.repositories.ingest_devices import profiles_with_rules
from core.logging import configure_logging
from core.settings import Settings

_log = structlog.get_logger(__name__)

_DRAIN: Final = 10.0
"""Seconds that a stop waits for the database to take what was received."""
_PERIOD: Final = 30.0  # seconds between looks at what people changed
_RETRY: Final = 1.0  # seconds, until the first look has succeeded
_SWEEP: Final = 1.0  # seconds between moves of the usual window
_DAY: Final = 86_400
_SLOTS: Final = 256
"""Storing processes side by side; each has one of as many client ids."""


class Storing:
    """Stores a share of all messages."""

    def __init__(
        self,
        settings: Settings,
        database: IngestDatabase,
        notifier: Notifier,
        watch: Watch,
        metrics: BrokerMetrics,
    ) -> None:
        self._settings = settings
        self._watch = watch
        self._database = database
        self._profiles = Profiles(metrics.derive_errors.inc)
        devices = self._devices = Devices(self._profiles)
        self._queue = IngestQueue(settings.broker.high_water, settings.broker.low_water, metrics)
        # Empty for ever: judging is another's.
        triggers = TriggerIndex(metrics)
        self._ingest = Ingest(self._queue, triggers, metrics)
        self._latest = LatestValues(database)
        self._presence = Presence(database, devices, self._queue, notifier)
        self._notifier = notifier
        self._flusher = Flusher(self._queue, database, devices, self._latest, notifier, metrics)
        self._fleet = Fleet(
            database,
            devices,
            self._profiles,
            triggers,
            settings.ingest.max_devices,
            self._presence.connected,
        )
        self._silence = Silence(database, self._fleet, notifier, settings.ingest.offline_after)
        self._consumer = StoringConsumer(
            self._fleet, self._ingest, metrics, settings.broker.max_payload
        )
        self._subscriber: Subscriber | None = None
        self.prepared = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """Why nothing is stored at the moment."""
        if self._subscriber is None:
            return "stands by: waits for the database or another process's place"
        return self._subscriber.trouble or self._flusher.trouble

    async def run(self) -> None:
        """Consume, whenever there is a place among the storing processes, until cancelled."""
        ingest = self._settings.ingest
        slots = _SLOTS if ingest.shared else 1
        names = tuple(f"{ingest.group}-{slot}" for slot in range(slots))
        # No message may be measured without the rules of its profile.
        await self.prepared.wait()
        prefix = f"$share/{ingest.group}/" if ingest.shared else ""
        while True:
            lease = await obtain(self._settings, *names)
            try:
                async with asyncio.TaskGroup() as group:
                    # Without the lease another may use its client id, and the two would throw
                    # each other out for ever. What is stored needs no lease.
                    group.create_task(lease.watch())
                    self._subscriber = Subscriber(
                        self._settings,
                        lease.name,
                        self._consumer.handle,
                        [prefix + each for each in UPWARD],
                    )
                    group.create_task(self._subscriber.run())
            except* LeaseLostError:
                _log.warning("another process may take this place", name=lease.name)
            finally:
                self._subscriber = None
                await lease.close()

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What must run beside it."""
        return [
            *(self._flusher.run() for _ in range(self._settings.broker.flushers)),
            self._latest.run(),
            self._presence.run(),
            self._silence.run(),
            self._refresh(),
            self._move_window(),
        ]

    async def _refresh(self) -> None:
        with self._watch.followed(self._fleet) as due:
            every = True
            while True:
                try:
                    await self._prepare()
                    await self._fleet.refresh(every=every)
                    self.prepared.set()
                except OUTAGE as error:
                    _log.warning("refreshing waits for the database", reason=repr(error))
                every = False
                try:
                    async with asyncio.timeout(_PERIOD if self.prepared.is_set() else _RETRY):
                        await due.wait()
                except TimeoutError:
                    every = True
                due.clear()

    async def _prepare(self) -> None:
        today = int(time.time()) // _DAY
        await self._flusher.prepare_days(today, today + 1)
        self._ingest.window.prepared(today, today + 1)
        self._ingest.window.move(time.time_ns() // 1000)
        async with self._database.connection() as connection:
            self._profiles.load(await profiles_with_rules(connection))
        self._devices.follow_profiles()

    async def _move_window(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self._ingest.window.move(time.time_ns() // 1000)

    async def drain(self) -> None:
        """Read no more; commit and acknowledge what was received."""
        self._queue.stop()
        try:
            async with asyncio.timeout(_DRAIN):
                await self._queue.drained()
        except TimeoutError:
            _log.warning("stopped with uncommitted messages; the broker will repeat them")

    async def flush(self) -> None:
        """Write what is written seldom."""
        for flush in (self._latest.flush, self._presence.flush, self._notifier.flush):
            try:
                async with asyncio.timeout(_DRAIN / 2):
                    await flush()
            except (*OUTAGE, RedisError) as error:
                _log.warning("not written at the stop", what=flush.__qualname__, reason=repr(error))


async def run(settings: Settings) -> None:
    """Ingest until cancelled or told to stop by SIGTERM or SIGINT.

    What was received is committed before the end; what is committed and not acknowledged is sent
    again by the broker to the next process, and stored once.

    Raises:
        ConfigurationError: The broker's address or the TLS files are wrong.
    """
    metrics = BrokerMetrics()
    valkey = bus.connect(settings)
    database = IngestDatabase(settings)
    notifier = Notifier(valkey, metrics)
    watch = Watch(valkey, metrics)
    storing = Storing(settings, database, notifier, watch, metrics)
    judges = [
        Judge(settings, shard, notifier, watch, metrics) for shard in range(settings.ingest.shards)
    ]
    downlink = ExternalDownlink(settings, watch, metrics)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with (
            status_server(
                "127.0.0.1", settings.ingest.metrics_port, metrics, lambda: storing.trouble
            ),
            asyncio.TaskGroup() as group,
        ):
            beside = [
                group.create_task(work) for work in (notifier.run(), watch.run(), *storing.tasks())
            ]
            reading = [
                group.create_task(work)
                for work in (storing.run(), downlink.run(), *(judge.run() for judge in judges))
            ]
            try:
                await stop.wait()
            finally:
                await storing.drain()
                for task in reading:
                    task.cancel()
                await asyncio.wait(reading, timeout=_DRAIN)
                await storing.flush()
                for task in beside:
                    task.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        await database.close()
        await valkey.aclose()
        _log.info("ingest stopped")


def main(settings: Settings) -> None:
    """Run ingest with these settings."""
    configure_logging("ingest")
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # as in `broker.main`
    uvloop.run(run(settings))
