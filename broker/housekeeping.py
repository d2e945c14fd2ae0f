"""Keeps the broker in step with the database: at once when told over Valkey, and every 30 s."""

import asyncio
import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Devices
from broker.dialects.children import Child
from broker.ingest.batching import Part
from broker.ingest.flusher import Flusher
from broker.ingest.intake import Ingest
from broker.ingest.profiles import Profiles
from broker.ingest.triggers import TriggerIndex
from broker.metrics import BrokerMetrics
from broker.mqtt.auth import Authenticator
from broker.mqtt.server import MqttServer
from broker.notifications import Notifier
from core import bus
from core.db.repositories.ingest import telemetry_definitions
from core.db.repositories.ingest_arrivals import devices_by_id
from core.db.repositories.ingest_devices import (
    DeviceRow,
    devices_of_credentials,
    devices_with_pending_commands,
    profiles_with_rules,
    tenant_limits,
)

_log = structlog.get_logger(__name__)

_PERIOD: Final = 30.0  # seconds
_AT_ONCE: Final = 200  # devices whose triggers are bound before others have their turn
_SWEEP: Final = 1.0  # seconds between looks for silent connections
_DAY: Final = 86_400
_CHANNELS: Final = (
    bus.DEVICE_CHANGED,
    bus.DEVICE_DISCONNECT,
    bus.DEVICE_DOWN,
    bus.LISTENING,
    bus.PROFILES_CHANGED,
    bus.TRIGGERS_CHANGED,
)


class Housekeeping:
    """What nobody else does. Notifications only make it quicker: the database is the record."""

    def __init__(
        self,
        server: MqttServer,
        database: IngestDatabase,
        authenticator: Authenticator,
        devices: Devices,
        profiles: Profiles,
        triggers: TriggerIndex,
        ingest: Ingest,
        flusher: Flusher,
        notifier: Notifier,
        valkey: Redis,
        metrics: BrokerMetrics,
    ) -> None:
        self._server = server
        self._database = database
        self._authenticator = authenticator
        self._devices = devices
        self._profiles = profiles
        self._triggers = triggers
        self._ingest = ingest
        self._flusher = flusher
        self._notifier = notifier
        self._valkey = valkey
        self._metrics = metrics
        self._due = asyncio.Event()
        self._changed: set[UUID] = set()
        self._any_changed = asyncio.Event()

    async def sweep(self) -> None:
        """Close silent connections and move the usual window, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP)
            self._server.sweep()
            self._ingest.window.move(time.time_ns() // 1000)

    async def run(self) -> None:
        """Refresh every period and whenever something may have been missed, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_PERIOD):
                    await self._due.wait()
            except TimeoutError:
                pass  # the period is over: that is the other reason to go on
            self._due.clear()
            try:
                await self.refresh_profiles()
                await self.refresh_triggers()
                await self.refresh_limits()
                await self.prepare_partitions()
                await self._check_devices()
            except OUTAGE as error:
                _log.warning("refreshing waits for the database", reason=repr(error))

    async def follow_changes(self) -> None:
        """Look devices up again that people changed, until cancelled."""
        while True:
            await self._any_changed.wait()
            self._any_changed.clear()
            changed, self._changed = self._changed, set()
            try:
                async with self._database.connection() as connection:
                    rows = await devices_by_id(connection, list(changed))
            except OUTAGE as error:
                _log.warning("changed devices wait for the next look", reason=repr(error))
            else:
                self._take_over(rows)

    async def refresh_profiles(self) -> None:
        """Take over what profiles say about measurements."""
        async with self._database.connection() as connection:
            rows = await profiles_with_rules(connection)
        self._profiles.load(rows)
        self._devices.follow_profiles()

    async def refresh_triggers(self) -> None:
        """Take over the published triggers; forget what changed ones remember."""
        async with self._database.connection() as connection:
            rows = await telemetry_definitions(connection)
        void = self._triggers.load(rows)
        for number, device in enumerate(self._devices):
            self._triggers.bind(device, None)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # thousands of devices must not hold up the messages
        if void:
            part = Part(None, None)
            part.effect().forget.extend(void)
            self._ingest.queue.put(part)

    async def refresh_limits(self) -> None:
        """Take over the limits in tenants' configurations."""
        async with self._database.connection() as connection:
            rows = await tenant_limits(connection)
        self._server.take_limits(rows)

    async def prepare_partitions(self) -> None:
        """Make today's and tomorrow's partitions before they are needed."""
        today = int(time.time()) // _DAY
        await self._flusher.prepare_days(today, today + 1)
        self._ingest.window.prepared(today, today + 1)
        self._ingest.window.move(time.time_ns() // 1000)

    async def _check_devices(self) -> None:
        """Do what lost notifications would have caused."""
        credentials = self._server.credentials
        if not credentials:
            return
        async with self._database.connection() as connection:
            rows = await devices_of_credentials(connection, credentials)
            waiting = await devices_with_pending_commands(
                connection, [device.id for device in self._devices if device.connections]
            )
            behind = await devices_by_id(connection, self._behind_others())
        usable = {row.credential_id for row in rows if row.usable}
        # Those that signed in while this was asked are not among the answers.
        self._server.end_credentials(set(credentials) - usable)
        self._take_over(row for row in (*rows, *behind) if row.usable)
        for row in behind:
            if not row.usable:
                self._end(row.device_id, "it is out of service")
        for device_id in waiting:
            self._wake(device_id)

    def _behind_others(self) -> list[UUID]:
        """Return the devices that are here without credentials of their own."""
        return [
            device.id
            for device in self._devices
            if any(isinstance(connection, Child) for connection in device.connections)
        ]

    def _take_over(self, rows: Iterable[DeviceRow]) -> None:
        for row in rows:
            device = self._devices.get(row.device_id)
            if device is not None:
                device.refresh(row)
                device.follow(self._profiles.get(row.profile_id))
                self._triggers.bind(device, None)

    # --- notifications ---------------------------------------------------------------------

    async def listen(self) -> None:
        """Follow the notifications until cancelled; reconnects by itself."""
        pause = 0.1
        while True:
            try:
                async with self._valkey.pubsub() as pubsub:
                    await pubsub.subscribe(*_CHANNELS)
                    pause = 0.1
                    while True:
                        message = await pubsub.get_message(timeout=5)
                        if message is None:
                            continue
                        if message["type"] == "message":
                            self._told(message["channel"].decode(), message["data"].decode())
                        elif message["data"] == len(_CHANNELS):
                            # Subscribed, maybe again: the client connects anew without a word.
                            self._missed()
            except (RedisError, OSError, TimeoutError) as error:
                self._metrics.bus_errors.inc()
                _log.warning("Valkey cannot be followed", reason=repr(error), seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _missed(self) -> None:
        """Notifications may have been missed: look at everything."""
        self._authenticator.forget_all()
        self._devices.each_connection(lambda connection: connection.wake())
        self._due.set()

    def _told(self, channel: str, payload: str) -> None:
        if channel in (bus.TRIGGERS_CHANGED, bus.PROFILES_CHANGED):
            self._due.set()
            return
        try:
            device_id = UUID(payload)
        except ValueError:
            _log.warning("a notification names no device", channel=channel)
            return
        if channel == bus.LISTENING:
            self._notifier.listening(device_id)
        elif channel == bus.DEVICE_DOWN:
            self._wake(device_id)
        elif channel == bus.DEVICE_CHANGED:
            self._authenticator.forget(device_id)
            if self._devices.get(device_id) is not None:
                self._changed.add(device_id)
                self._any_changed.set()
        else:
            self._authenticator.forget(device_id)
            self._end(device_id, "its credentials changed")

    def _end(self, device_id: UUID, why: str) -> None:
        device = self._devices.get(device_id)
        for connection in list(device.connections) if device is not None else ():
            connection.end(why)

    def _wake(self, device_id: UUID) -> None:
        device = self._devices.get(device_id)
        for connection in list(device.connections) if device is not None else ():
            connection.wake()
