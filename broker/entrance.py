"""The one way in for a device, however it comes: its live object, its triggers as remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from broker.database import IngestDatabase
from broker.devices import Device, Devices
from broker.ingest.triggers import TriggerIndex
from broker.lookups import Lookups
from core.db.repositories.ingest import TriggerStateRow
from core.db.repositories.ingest_arrivals import trigger_states_of
from core.db.repositories.ingest_devices import DeviceRow

_LOADS: Final = 4  # at once, so that a crowd at the door leaves connections to the flushers


class Entrance:
    """Lets devices in.

    While a device has rows on their way or somebody holds it who has loaded its states, what
    memory remembers is newer than the database, and stays.
    """

    def __init__(self, database: IngestDatabase, devices: Devices, triggers: TriggerIndex) -> None:
        self._database = database
        self._devices = devices
        self._triggers = triggers
        self._loads = asyncio.Semaphore(_LOADS)
        self._lookups = Lookups(self._ask)

    async def enter(self, rows: Sequence[DeviceRow]) -> list[Device]:
        """Return the live objects of devices, to be given back to `leave`.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: Their states cannot be loaded.
        """
        entered = [self._devices.enter(row) for row in rows]
        try:
            fresh = [device for device in entered if not _remembered(device)]
            states: dict[UUID, list[TriggerStateRow]] = {}
            if any(self._triggers.watches(device.tenant_id) for device in fresh):
                if len(fresh) == 1:  # one of a crowd of connections, which share a query
                    states[fresh[0].id] = await self._lookups.get(fresh[0].id) or []
                else:
                    states = await self._ask([device.id for device in fresh])
            for device in entered:
                # Another may have been quicker while this was asked.
                known = _remembered(device)
                self._triggers.bind(device, None if known else states.get(device.id, []))
                device.remembered = True
        except BaseException:
            self.leave(entered)
            raise
        return entered

    async def _ask(self, devices: list[UUID]) -> dict[UUID, list[TriggerStateRow]]:
        states: dict[UUID, list[TriggerStateRow]] = {}
        async with self._loads, self._database.connection() as connection:
            for state in await trigger_states_of(connection, devices):
                states.setdefault(state.device_id, []).append(state)
        return states

    def device(self, device_id: UUID) -> Device | None:
        """Return the live object of a device, if there is one."""
        return self._devices.get(device_id)

    def leave(self, devices: Sequence[Device]) -> None:
        """Let go of devices that were entered."""
        for device in devices:
            self._devices.leave(device)


def _remembered(device: Device) -> bool:
    return device.remembered or bool(device.pending or device.connections)
