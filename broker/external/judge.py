"""Evaluates the triggers of one shard of the devices; see docs/adr/0010."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from broker.database import OUTAGE
from broker.devices import Devices
from broker.external.consumer import MEASUREMENTS, JudgingConsumer
from broker.external.fleet import Fleet
from broker.external.leases import Lease, LeaseLostError, obtain
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
from core.db.repositories.ingest import telemetry_definitions
from core.db.repositories.ingest_devices import profiles_with_rules
from core.settings import Settings

_log = structlog.get_logger(__name__)

_PERIOD: Final = 30.0  # seconds


class Judge:
    """One shard, whenever this process has its lease.

    Everything it writes goes over the lease's connection. The broker keeps the order of a device's
    messages within its session, and gives a successor under the same client id those that were not
    acknowledged, in their order.
    """

    def __init__(
        self,
        settings: Settings,
        shard: int,
        notifier: Notifier,
        watch: Watch,
        metrics: BrokerMetrics,
    ) -> None:
        self._settings = settings
        self._shard = shard
        self._notifier = notifier
        self._watch = watch
        self._metrics = metrics
        self._name = f"{settings.ingest.group}-triggers-{shard}"

    async def run(self) -> None:
        """Judge until cancelled; begins anew when the lease is lost."""
        while True:
            lease = await obtain(self._settings, self._name)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(lease.watch())
                    await self._judge(lease, group)
            except* LeaseLostError:
                _log.warning("another process may judge now", name=self._name)
            finally:
                await lease.close()

    async def _judge(self, lease: Lease, group: asyncio.TaskGroup) -> None:
        settings = self._settings
        # Of its own: what was received and committed is counted by who stores.
        metrics = BrokerMetrics()
        metrics.fired, metrics.trigger_errors = self._metrics.fired, self._metrics.trigger_errors
        profiles = Profiles(metrics.derive_errors.inc)
        devices = Devices(profiles)
        queue = IngestQueue(settings.broker.high_water, settings.broker.low_water, metrics)
        triggers = TriggerIndex(metrics)
        ingest = Ingest(queue, triggers, metrics)
        latest = LatestValues(lease)
        flusher = Flusher(queue, lease, devices, latest, self._notifier, metrics)
        fleet = Fleet(lease, devices, profiles, triggers, settings.ingest.max_devices)
        consumer = JudgingConsumer(
            fleet,
            ingest,
            metrics,
            settings.broker.max_payload,
            self._shard,
            settings.ingest,
        )

        async def refresh() -> None:
            async with lease.connection() as connection:
                # What changed triggers remember is void by its digest; nothing is deleted here,
                # since another shard may have stored a new state already.
                triggers.load(await telemetry_definitions(connection))
                profiles.load(await profiles_with_rules(connection))
            devices.follow_profiles()
            for device in devices:
                triggers.bind(device, None)

        await self._until(refresh)
        subscriber = Subscriber(settings, self._name, consumer.handle, MEASUREMENTS)
        group.create_task(flusher.run())
        group.create_task(subscriber.run())
        group.create_task(consumer.settle())
        with self._watch.followed(fleet) as due:
            while True:
                every = False
                try:
                    async with asyncio.timeout(_PERIOD):
                        await due.wait()
                except TimeoutError:
                    every = True
                due.clear()
                await self._until(refresh)
                await self._until(lambda every=every: fleet.refresh(every=every))

    @staticmethod
    async def _until(act: Callable[[], Awaitable[None]]) -> None:
        pause = 0.1
        while True:
            try:
                await act()
            except OUTAGE as error:
                _log.warning("refreshing waits for the database", reason=repr(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
            else:
                return
