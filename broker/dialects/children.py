"""Devices behind another device's connection.

A gateway names the devices it speaks for. Those it may speak for are in `gateway_children`: the
ones it brought into being, and those people gave it; a device that it names and that belongs to
nobody's name is created. While a child is with its gateway it is one of the live devices, as if it
were connected itself: its triggers, its presence and its commands work as those of any other.

Bounds: children of a connection (`GatewayRule.max_children`), and while some are looked up, the
gateway's connection is not read, so there is one look-up of each connection at a time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Device
from broker.entrance import Entrance
from broker.ingest.payloads import PayloadError
from broker.mqtt.downlink import Downlink, Downlinks
from broker.mqtt.voices import Voice
from broker.presence import Presence
from core.db.repositories.ingest_arrivals import devices_of_tenant
from core.db.repositories.ingest_gateways import Refusal, adopt, children

if TYPE_CHECKING:
    from broker.mqtt.connection import Connection
    from core.db.repositories.ingest_devices import DeviceRow

_log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.05  # seconds before a look-up is repeated; doubled up to
_LONGEST_PAUSE: Final = 2.0
MAX_NAME: Final = 255

_REASONS: Final = {
    Refusal.NO_PROFILE: "no device profile is stated for new devices, or there is none of its name",
    Refusal.TAKEN: "the device of this name is not given to this gateway",
}


class Child:
    """A device behind a connection; one of the device's connections.

    Attributes:
        name: By which its gateway speaks of it.
        downlink: What has been sent to it.
        voices: How commands and desired state are said to it.
    """

    __slots__ = ("device", "downlink", "family", "name", "voices")

    def __init__(self, device: Device, name: str, family: Family) -> None:
        self.device = device
        self.name = name
        self.family = family
        self.downlink: Downlink | None = Downlink()
        self.voices: Sequence[Voice] = family.voices

    @property
    def heard(self) -> float:
        """When the last whole packet of its gateway came."""
        return self.family.connection.heard

    @property
    def alive(self) -> bool:
        """Whether it is still behind its gateway's connection."""
        return self.family.get(self.name) is self and self.family.connection.alive

    def end(self, why: str) -> None:
        """Take it away from its gateway, until that names it again."""
        self.family.leave(self.name)

    def wake(self) -> None:
        """Look for commands and desired state that it has not been sent."""
        self.family.nursery.downlinks.wake(self)

    def send(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Send through its gateway, whose acknowledgement counts for the gateway's own window."""
        self.family.connection.send(topic, payload, qos, retain=retain)


class Family:
    """The devices behind one connection.

    Args:
        connection: The gateway's.
        limit: Children at a time.
        voices: How commands and desired state are said to them.
        nursery: Brings them.
    """

    def __init__(
        self, connection: Connection, limit: int, voices: Sequence[Voice], nursery: Nursery
    ) -> None:
        self.connection = connection
        self.limit = limit
        self.voices = voices
        self.nursery = nursery
        self._children: dict[str, Child] = {}

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def get(self, name: str) -> Child | None:
        """Return the child of this name, if it is here."""
        return self._children.get(name)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those of these names whose children are not here."""
        return [name for name in names if name not in self._children]

    async def fetch(
        self, titles: Mapping[str, str], profiles: Sequence[str]
    ) -> dict[str, PayloadError]:
        """Bring children; return why not, by name. Waits for the database if it is down.

        Args:
            titles: Name → name of the device in its tenant, if it has to be created.
            profiles: Names of the profile for such a device; the first that exists is taken.
        """
        refused: dict[str, PayloadError] = {}
        room = max(0, self.limit - len(self._children))
        wanted = list(titles)
        for name in wanted[room:]:
            refused[name] = PayloadError(
                "too_many_children", "", f"the gateway has {self.limit} devices already"
            )
        found = {name: titles[name] for name in wanted[:room]}
        pause = _FIRST_PAUSE
        while found and self.connection.alive:
            try:
                refused |= await self.nursery.bring(self, found, profiles)
            except OUTAGE as error:
                _log.warning("a gateway's devices wait for the database", reason=repr(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  (jitter)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                break
        return refused

    def arrive(self, name: str, device: Device) -> None:
        """Take in a child that was entered."""
        child = self._children[name] = Child(device, name, self)
        device.connections.add(child)
        self.nursery.presence.connected(device)
        child.wake()

    def leave(self, name: str) -> None:
        """Let a child go; nothing happens if it is not here."""
        child = self._children.pop(name, None)
        if child is None:
            return
        child.downlink = None
        device = child.device
        device.connections.discard(child)
        if not device.connections:
            self.nursery.presence.disconnected(device)
        self.nursery.entrance.leave([device])

    def close(self) -> None:
        """The connection has ended: all go."""
        for name in list(self._children):
            self.leave(name)


class Nursery:
    """Finds the devices that gateways name, and creates them."""

    def __init__(
        self,
        database: IngestDatabase,
        entrance: Entrance,
        presence: Presence,
        downlinks: Downlinks,
    ) -> None:
        self.database = database
        self.entrance = entrance
        self.presence = presence
        self.downlinks = downlinks

    async def bring(
        self, family: Family, titles: Mapping[str, str], profiles: Sequence[str]
    ) -> dict[str, PayloadError]:
        """Bring children to a family; return why not, by name.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: The database cannot be asked.
        """
        gateway = family.connection.device
        rows, refused = await self._find(gateway, titles, profiles)
        usable = {name: row for name, row in rows.items() if row.usable}
        for name in rows.keys() - usable.keys():
            refused[name] = PayloadError("out_of_service", "", "the device is out of service")
        entered = await self.entrance.enter(list(usable.values()))
        for name, device in zip(usable, entered, strict=True):
            if family.connection.alive and family.get(name) is None:
                family.arrive(name, device)
            else:
                self.entrance.leave([device])
        return refused

    async def _find(
        self, gateway: Device, titles: Mapping[str, str], profiles: Sequence[str]
    ) -> tuple[dict[str, DeviceRow], dict[str, PayloadError]]:
        refused: dict[str, PayloadError] = {}
        async with self.database.connection() as connection:
            known = await children(connection, gateway.id, list(titles))
            for name, title in titles.items():
                if name in known:
                    continue
                if len(title) > MAX_NAME:
                    refused[name] = PayloadError(
                        "invalid_name", "", f"{title[:100]!r} is too long for a device's name"
                    )
                    continue
                async with connection.transaction():
                    made = await adopt(
                        connection, gateway.id, gateway.tenant_id, name, title, profiles
                    )
                if isinstance(made, UUID):
                    known[name] = made
                    _log.info("a gateway brought a device", device_id=str(made))
                    continue
                # Another connection of the gateway may have been quicker.
                again = await children(connection, gateway.id, [name])
                if name in again:
                    known |= again
                else:
                    refused[name] = PayloadError(made.value, "", _REASONS[made])
            rows = await devices_of_tenant(connection, gateway.tenant_id, list(known.values()))
        return {name: rows[key] for name, key in known.items() if key in rows}, refused
