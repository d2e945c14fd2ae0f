"""Who is online: written about once a second, and told to dashboards."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Device, Devices
from broker.ingest.batching import IngestQueue, Part
from broker.notifications import Notifier
from core.db.repositories.ingest import OutboxRow
from core.db.repositories.ingest_devices import (
    PresenceRow,
    note_visits,
    set_presence,
    touch,
)
from core.db.repositories.outbox import outbox_key
from core.temporal.contracts import DeviceConnected
from core.temporal.names import Signal, provisioning_id
from core.temporal.outbox import SendSignal

_log = structlog.get_logger(__name__)

_PERIOD: Final = 1.0  # seconds between writes
_TOUCH: Final = 30.0
"""Seconds between notes of when connected devices were heard of."""

_WAITING: Final = ("registered", "pending")


class Presence:
    """Comings and goings of devices, until they are written. The last one of a device counts."""

    def __init__(
        self,
        database: IngestDatabase,
        devices: Devices,
        queue: IngestQueue,
        notifier: Notifier,
        broker_id: UUID | None = None,
    ) -> None:
        """Args: the last is this process's, where devices are connected to it."""
        self._broker_id = broker_id
        self._database = database
        self._devices = devices
        self._queue = queue
        self._notifier = notifier
        self._changed: dict[Device, PresenceRow] = {}
        self._visited: dict[UUID, datetime] = {}
        self._touched = time.monotonic()

    def connected(self, device: Device) -> None:
        """A connection of the device was accepted."""
        now = datetime.now(UTC)
        self._changed[device] = PresenceRow(device.id, True, now, now)
        if device.lifecycle in _WAITING:
            # Its provisioning waits for this; the outbox tells it once, however often it comes.
            connected = DeviceConnected(device_id=device.id, at=now)
            signal = SendSignal(
                workflow_id=provisioning_id(device.tenant_id, device.id),
                signal=Signal.DEVICE_CONNECTED,
                payload=connected.model_dump(mode="json"),
            )
            part = Part(None, None)
            part.effect().outbox.append(
                OutboxRow(
                    device.tenant_id,
                    "signal",
                    outbox_key(device.tenant_id, signal),
                    msgspec.json.encode(signal).decode(),
                )
            )
            self._queue.put(part)

    def visited(self, device: Device) -> None:
        """The device sent something without a connection."""
        if device.lifecycle in _WAITING and not device.connections:
            self.connected(device)
            self.disconnected(device)
        else:
            self._visited[device.id] = datetime.now(UTC)

    def disconnected(self, device: Device) -> None:
        """The last connection of the device has ended."""
        came = self._changed.get(device)
        since = came.connected_at if came is not None else None
        self._changed[device] = PresenceRow(device.id, False, datetime.now(UTC), since)

    async def run(self) -> None:
        """Write once a period until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            try:
                await self.flush()
                if time.monotonic() - self._touched > _TOUCH:
                    await self._touch()
                    self._touched = time.monotonic()
            except OUTAGE as error:
                _log.warning("presence waits for the database", reason=repr(error))

    async def flush(self) -> None:
        """Write what changed; kept for the next time if that fails."""
        taken, self._changed = self._changed, {}
        if not taken:
            return
        try:
            async with self._database.connection() as connection:
                true = await set_presence(connection, sorted(taken.values()), self._broker_id)
        except BaseException:
            self._changed = taken | self._changed
            raise
        for device, row in taken.items():
            if row.device_id in true:
                self._notifier.presence(device.tenant_id, device.id, online=row.online, at=row.at)

    async def _touch(self) -> None:
        now, clock = datetime.now(UTC), time.monotonic()
        here = sorted(
            (device.id, now - timedelta(seconds=clock - max(c.heard for c in device.connections)))
            for device in self._devices
            if device.connections
        )
        visited, self._visited = self._visited, {}
        async with self._database.connection() as connection:
            if here:
                await touch(connection, here, self._broker_id)
            if visited:
                await note_visits(connection, sorted(visited.items()))
