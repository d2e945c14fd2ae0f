"""The devices that are connected, or were a moment ago: one live object for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import msgspec

from core.db.repositories.ingest_devices import DeviceRow
from core.db.repositories.ingest_rows import RowEncoder, device_prefix

if TYPE_CHECKING:
    from broker.ingest.profiles import ProfileRules, Profiles, Stream
    from broker.ingest.watches import MetricWatch

MetricLists = dict[tuple[str, ...], RowEncoder]
"""Names → encoder, of one tenant."""


class Connection(Protocol):
    """What other parts may do with a device's connection."""

    @property
    def heard(self) -> float:
        """When the last whole packet came (`time.monotonic`)."""
        ...

    def end(self, why: str) -> None:
        """Close it."""
        ...

    def wake(self) -> None:
        """Look for commands and desired state that the device has not been sent."""
        ...


class Device:
    """One device, shared by its connections and by the rows on their way to the database.

    Attributes:
        prefix: Start of every COPY row of this device.
        last_time: Newest time given to a message without one, in microseconds: they increase
            strictly, so that two in the same instant are two rows.
        received: Messages that came since it is here.
        seen: When its newest measurement was received, in microseconds; 0 for never.
        rules: What its profile says about measurements.
        streams: What its messages are measured by, by the metrics they hold; None without rules.
        bindings: The triggers that watch it, with their states, by metric.
        context: What expressions see as `device`.
        pending: Parts on their way to the database. While there are some, the trigger states in
            memory are newer than the stored ones.
        connections: Live connections.
        remembered: Its trigger states have been loaded since it is here.
    """

    __slots__ = (
        "bindings",
        "connections",
        "context",
        "id",
        "last_time",
        "lifecycle",
        "lists",
        "name",
        "pending",
        "prefix",
        "profile",
        "profile_id",
        "received",
        "remembered",
        "rules",
        "seen",
        "streams",
        "tenant_id",
    )

    def __init__(self, row: DeviceRow, lists: MetricLists) -> None:
        self.id = row.device_id
        self.tenant_id = row.tenant_id
        self.prefix = device_prefix(row.device_id)
        self.lists = lists
        self.last_time = 0
        self.seen = 0
        self.received = 0
        self.rules: ProfileRules | None = None
        self.streams: dict[tuple[str, ...], Stream] | None = None
        self.pending = 0
        self.bindings: tuple[MetricWatch, ...] = ()
        self.connections: set[Connection] = set()
        self.remembered = False
        self.refresh(row)

    def refresh(self, row: DeviceRow) -> None:
        """Take over what people may have changed meanwhile."""
        self.name, self.profile, self.lifecycle = row.name, row.profile, row.lifecycle
        self.profile_id = row.profile_id
        self.context: dict[str, Any] = {
            "id": str(row.device_id),
            "name": row.name,
            "type": row.profile,
            "site": row.site,
            "tags": row.tags,
            "metadata": msgspec.json.decode(row.metadata),
            "location": msgspec.json.decode(row.location) if row.location else None,
        }

    def follow(self, rules: ProfileRules | None) -> None:
        """Measure by these rules; when they are others, what was remembered is forgotten."""
        if rules is not self.rules:
            self.rules = rules
            self.streams = None if rules is None else {}


class Devices:
    """The registry. A device leaves it when nothing refers to it any more."""

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._devices: dict[UUID, Device] = {}
        self._lists: dict[UUID, MetricLists] = {}
        self._held: Counter[UUID] = Counter()

    def __iter__(self) -> Iterator[Device]:
        return iter(list(self._devices.values()))

    def get(self, device_id: UUID) -> Device | None:
        """Return the live device, if there is one."""
        return self._devices.get(device_id)

    def lists(self, tenant_id: UUID) -> MetricLists:
        """Return the known metric lists of a tenant."""
        return self._lists.setdefault(tenant_id, {})

    def enter(self, row: DeviceRow) -> Device:
        """Return the live object of a device that signs in, made if need be; `leave` it later."""
        device = self._devices.get(row.device_id)
        if device is None:
            device = self._devices[row.device_id] = Device(row, self.lists(row.tenant_id))
        else:
            device.refresh(row)
        device.follow(self._profiles.get(device.profile_id))
        self._held[device.id] += 1
        return device

    def follow_profiles(self) -> None:
        """Measure every device by its profile's present rules."""
        for device in self:
            device.follow(self._profiles.get(device.profile_id))

    def leave(self, device: Device) -> None:
        """Undo one `enter`."""
        self._held[device.id] -= 1
        if not self._held[device.id]:
            del self._held[device.id]
        self.release(device)

    def release(self, device: Device) -> None:
        """Forget a device that nothing holds: no connection, no row on its way."""
        if not device.pending and device.id not in self._held:
            self._devices.pop(device.id, None)

    def each_connection(self, act: Callable[[Connection], None]) -> None:
        """Do something with every live connection."""
        for device in self:
            for connection in list(device.connections):
                act(connection)
