"""The broker process: `iotlinker broker`."""

import asyncio
import gc
import signal
from typing import Final

import structlog
import uvloop
from redis.exceptions import RedisError

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Devices
from broker.dialects.speak import speak_dialects
from broker.entrance import Entrance
from broker.housekeeping import Housekeeping
from broker.http_intake import HttpIntake
from broker.ingest.batching import IngestQueue
from broker.ingest.flusher import Flusher
from broker.ingest.intake import Ingest
from broker.ingest.latest import LatestValues
from broker.ingest.profiles import Profiles
from broker.ingest.triggers import TriggerIndex
from broker.instance import Instance
from broker.metrics import BrokerMetrics
from broker.mqtt.auth import Authenticator, Authorizer
from broker.mqtt.doors import certificates_of, doors
from broker.mqtt.server import MqttServer
from broker.notifications import Notifier
from broker.peers import Peers
from broker.presence import Presence
from broker.status import status_server
from core import bus
from core.intake import intake_key
from core.logging import configure_logging
from core.settings import Settings, load_settings

_log = structlog.get_logger(__name__)

_DRAIN: Final = 10.0
"""Seconds that a stop waits for the database to take what was received."""


async def run(settings: Settings, authorizer: Authorizer | None = None) -> None:
    """Run the broker until it is cancelled or told to stop by SIGTERM or SIGINT.

    Args:
        settings: The installation's.
        authorizer: Who may do what; the product's rule unless given.

    It stops in order: no new connections, no more reading, what was received is committed and
    acknowledged, and then the connections are closed.
    """
    certificates = certificates_of(settings.broker)
    metrics = BrokerMetrics()
    valkey = bus.connect(settings)
    database = IngestDatabase(settings)
    profiles = Profiles(metrics.derive_errors.inc)
    devices = Devices(profiles)
    queue = IngestQueue(settings.broker.high_water, settings.broker.low_water, metrics)
    triggers = TriggerIndex(metrics)
    ingest = Ingest(queue, triggers, metrics)
    notifier = Notifier(valkey, metrics)
    latest = LatestValues(database)
    instance = Instance(database, notifier, settings.broker.metrics_port)
    presence = Presence(database, devices, queue, notifier, instance.id)
    authenticator = Authenticator(database)
    flusher = Flusher(queue, database, devices, latest, notifier, metrics)
    entrance = Entrance(database, devices, triggers)
    server = MqttServer(
        settings,
        database,
        authorizer or authenticator,
        entrance,
        ingest,
        presence,
        metrics,
        doors(settings.broker, certificates),
    )
    speak_dialects(server, settings, database, entrance, ingest, presence, notifier)
    housekeeping = Housekeeping(
        server,
        database,
        authenticator,
        devices,
        profiles,
        triggers,
        ingest,
        flusher,
        notifier,
        valkey,
        metrics,
    )
    several = settings.broker.processes > 1
    peers = Peers(valkey, instance, server.release, metrics, several=several)
    state = "waits for the database"

    def wrong() -> str | None:
        return state or flusher.trouble

    intake = HttpIntake(
        intake_key(settings),
        database,
        authenticator,
        entrance,
        ingest,
        presence,
        wrong,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if certificates is not None:
        loop.add_signal_handler(signal.SIGHUP, certificates.reload)
    try:
        async with (
            status_server("127.0.0.1", settings.broker.metrics_port, metrics, wrong, intake),
            asyncio.TaskGroup() as group,
        ):
            waiter = asyncio.create_task(stop.wait())
            ready = asyncio.create_task(_prepare(instance, housekeeping))
            await asyncio.wait((waiter, ready), return_when=asyncio.FIRST_COMPLETED)
            tasks: list[asyncio.Task[None]] = []
            try:
                if ready.done():
                    await ready
                    tasks = [
                        group.create_task(work)
                        for work in (
                            *(flusher.run() for _ in range(settings.broker.flushers)),
                            notifier.run(),
                            latest.run(),
                            presence.run(),
                            instance.run(),
                            peers.listen(group),
                            housekeeping.run(),
                            housekeeping.follow_changes(),
                            housekeeping.sweep(),
                            housekeeping.listen(),
                            *([] if certificates is None else [certificates.watch()]),
                        )
                    ]
                    await peers.joined()
                    await server.start(group, peers)
                    state = None
                    _log.info("broker ready", port=settings.broker.port)
                    await waiter
            finally:
                state = "stopping"
                waiter.cancel()
                ready.cancel()
                if tasks:
                    await _stop(server, queue, latest, presence, notifier, instance)
                for task in tasks:
                    task.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
        await database.close()
        await valkey.aclose()
        _log.info("broker stopped")


async def _prepare(instance: Instance, housekeeping: Housekeeping) -> None:
    """Do what must be done before the first message: no trigger may miss one."""
    pause = 0.1
    while True:
        try:
            await housekeeping.refresh_profiles()
            await housekeeping.refresh_triggers()
            await housekeeping.refresh_limits()
            await housekeeping.prepare_partitions()
            # A killed process could not say that its devices are gone.
            await instance.begin()
        except OUTAGE as error:
            _log.warning("waiting for the database", reason=repr(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
        else:
            return


async def _stop(
    server: MqttServer,
    queue: IngestQueue,
    latest: LatestValues,
    presence: Presence,
    notifier: Notifier,
    instance: Instance,
) -> None:
    server.stop_arrivals()
    queue.stop()
    try:
        async with asyncio.timeout(_DRAIN):
            await queue.drained()
    except TimeoutError:
        _log.warning("stopped with uncommitted messages; their senders will repeat them")
    await server.close()
    for flush in (latest.flush, presence.flush, notifier.flush, instance.end):
        try:
            async with asyncio.timeout(_DRAIN / 2):
                await flush()
        except (*OUTAGE, RedisError) as error:
            _log.warning("not written at the stop", what=flush.__qualname__, reason=repr(error))


def main() -> None:
    """Run the broker with the settings of the environment."""
    configure_logging("broker")
    # Under load some 100,000 short-lived objects are alive at a time, none of them in cycles: the
    # usual thresholds would have the collector walk through them many times a second.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    uvloop.run(run(load_settings()))


if __name__ == "__main__":
    main()
