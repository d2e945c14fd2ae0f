"""The devices whose messages come through another broker: looked up by the id in their topics."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final
from uuid import UUID

import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Device, Devices
from broker.entrance import Entrance
from broker.ingest.profiles import Profiles
from broker.ingest.triggers import TriggerIndex
from core.db.repositories.ingest_arrivals import devices_by_id
from core.db.repositories.ingest_devices import DeviceRow

_log = structlog.get_logger(__name__)

_STRANGERS: Final = 10_000
"""Unknown ids that are remembered, so that a device nobody knows costs one look a while."""
_STRANGE: Final = 5.0  # seconds
_BATCH: Final = 1_000  # devices in one look at the database
_LONGEST_PAUSE: Final = 2.0  # seconds between tries while the database is down


class Seat:
    """A device's place here, in the form of a connection, so that presence sees it as one."""

    __slots__ = ("_leave", "device", "heard")

    def __init__(self, device: Device, leave: Callable[[Device], None]) -> None:
        self.device = device
        self.heard = time.monotonic()
        self._leave = leave

    def end(self, why: str) -> None:
        """Forget the device; its next message has it looked up anew."""
        _log.info("forgotten", device_id=str(self.device.id), why=why)
        self._leave(self.device)

    def wake(self) -> None:
        """Delivery is another task's, for all devices at once."""


class Fleet:
    """Known devices by id, the longest unheard first; bounded.

    Args:
        database: Where they are looked up.
        devices: The registry they are entered in.
        profiles: What their profiles say about measurements.
        triggers: What watches them.
        limit: Devices that are remembered; more than a chunk can name.
        arrived: Called for each that was not here before.
    """

    def __init__(
        self,
        database: IngestDatabase,
        devices: Devices,
        profiles: Profiles,
        triggers: TriggerIndex,
        limit: int,
        arrived: Callable[[Device], None] | None = None,
    ) -> None:
        self._database = database
        self._devices = devices
        self._profiles = profiles
        self._triggers = triggers
        self._changed: set[UUID] = set()
        self._entrance = Entrance(database, devices, triggers)
        self._limit = limit
        self._arrived = arrived
        self._seats: OrderedDict[UUID, Seat] = OrderedDict()
        self._strangers: OrderedDict[UUID, float] = OrderedDict()

    def get(self, device_id: UUID) -> Device | None:
        """Return a device that is known, and note that it was heard."""
        seat = self._seats.get(device_id)
        if seat is None:
            return None
        seat.heard = time.monotonic()
        self._seats.move_to_end(device_id)
        return seat.device

    async def find(self, ids: Collection[UUID]) -> None:
        """Look up those that are not known yet; waits as long as the database is down.

        When it returns, `get` finds each of them that there is.
        """
        pause = 0.1
        while missing := self._missing(ids):
            try:
                await self._look_up(missing[:_BATCH])
                pause = 0.1
            except OUTAGE as error:
                _log.warning("devices are looked up again", reason=repr(error), seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _missing(self, ids: Collection[UUID]) -> list[UUID]:
        limit = time.monotonic() - _STRANGE
        # Noting that it was heard also keeps it from giving way to those that are looked up.
        return [
            each
            for each in ids
            if self.get(each) is None and self._strangers.get(each, limit) <= limit
        ]

    async def _look_up(self, ids: list[UUID]) -> None:
        async with self._database.connection() as connection:
            rows = [row for row in await devices_by_id(connection, ids) if row.usable]
        for device in await self._entrance.enter(rows):
            seat = self._seats[device.id] = Seat(device, self._leave)
            device.connections.add(seat)
            self._strangers.pop(device.id, None)
            if self._arrived is not None:
                self._arrived(device)
        now = time.monotonic()
        for each in ids:
            if each not in self._seats:
                self._strangers[each] = now
                self._strangers.move_to_end(each)
        while len(self._strangers) > _STRANGERS:
            self._strangers.popitem(last=False)
        while len(self._seats) > self._limit:
            self._leave(next(iter(self._seats.values())).device)

    def forget(self, device_id: UUID) -> None:
        """Something about the device changed: look it up at its next message."""
        self._strangers.pop(device_id, None)
        seat = self._seats.get(device_id)
        if seat is not None:
            self._leave(seat.device)

    def _leave(self, device: Device) -> None:
        seat = self._seats.pop(device.id, None)
        if seat is not None:
            device.connections.discard(seat)
            self._entrance.leave([device])

    def silent(self, seconds: float) -> list[Device]:
        """Let go of devices that were not heard for so long, and return them."""
        limit = time.monotonic() - seconds
        gone: list[Device] = []
        for seat in self._seats.values():
            if seat.heard > limit:
                break
            gone.append(seat.device)
        for device in gone:
            self._leave(device)
        return gone

    def changed(self, device_id: UUID) -> None:
        """People changed something about the device: `refresh` it soon."""
        if device_id in self._seats:
            self._changed.add(device_id)

    async def refresh(self, *, every: bool) -> None:
        """Take over what people changed, of every device or of those it is known of.

        Devices that are out of service are forgotten.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: The database cannot be reached.
        """
        changed, self._changed = self._changed, set()
        ids = list(self._seats) if every else list(changed)
        try:
            for start in range(0, len(ids), _BATCH):
                part = ids[start : start + _BATCH]
                async with self._database.connection() as connection:
                    found = await devices_by_id(connection, part)
                rows = {row.device_id: row for row in found}
                for device_id in part:
                    self._take_over(device_id, rows.get(device_id))
        except BaseException:
            self._changed |= changed
            raise

    def _take_over(self, device_id: UUID, row: DeviceRow | None) -> None:
        seat = self._seats.get(device_id)
        if seat is None:
            return
        if row is None or not row.usable:
            self._leave(seat.device)
            return
        seat.device.refresh(row)
        seat.device.follow(self._profiles.get(row.profile_id))
        self._triggers.bind(seat.device, None)
