"""How much a device and a tenant may send: token buckets of messages and of bytes.

Who sends more is slowed by not being read, until the bucket is no longer in debt; TCP does the
rest, and nothing is lost. A device that is over its own limit for `over_limit_seconds` without
having been well below it is disconnected. What a connection costs is one look at whether it has a
meter; it has one when a limit applies to it.

Rates are the settings', or those of a tenant's configuration: `{"limits": {…}}` with the members
of `TenantLimits`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, Self
from uuid import UUID

import msgspec
import structlog

from broker.devices import Device
from core.db.repositories.ingest import EventRow
from core.db.repositories.ingest_devices import TenantLimitsRow
from core.settings.processes import BrokerSettings

_log = structlog.get_logger(__name__)

PIECE: Final = 4096
"""Bytes taken at a time from a client that is near its limit."""
BURST: Final = 5.0
"""Seconds' worth that may come at once after a quiet time."""
_SMALLEST: Final = 16  # bytes; no message of a device's is shorter
_TELL: Final = 60.0  # seconds between events about the same device or tenant


class TenantLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one tenant; 0 is none, and what is missing is as in the settings.

    Attributes:
        device_messages, device_bytes: A second, of each device.
        messages, bytes: A second, of all devices together.
        connections: Of all devices together.
    """

    device_messages: float | None = None
    device_bytes: float | None = None
    messages: float | None = None
    bytes: float | None = None
    connections: int | None = None

    @classmethod
    def of_settings(cls, broker: BrokerSettings) -> Self:
        """Return what holds for tenants that say nothing."""
        return cls(
            broker.device_messages_per_second,
            broker.device_bytes_per_second,
            broker.tenant_messages_per_second,
            broker.tenant_bytes_per_second,
            broker.tenant_connections,
        )

    def over(self, other: Self) -> Self:
        """Return this with what it does not say taken from another."""
        mine = {name: getattr(self, name) for name in self.__struct_fields__}
        return type(self)(**{k: getattr(other, k) if v is None else v for k, v in mine.items()})


class Budget:
    """What one device, or one tenant, may still send.

    Attributes:
        users: Connections that spend it.
        over_since: Since when it has been in debt again and again; None: it is not.
        told: When an event was written about it last.
    """

    __slots__ = ("_at", "_bytes", "_messages", "_rates", "over_since", "told", "users")

    def __init__(self, messages: float, size: float, now: float) -> None:
        self._rates = (messages or math.inf, size or math.inf)
        self._messages, self._bytes = (rate * BURST for rate in self._rates)
        self._at = now
        self.users = 0
        self.over_since: float | None = None
        self.told = -math.inf

    def change(self, messages: float, size: float) -> None:
        """Go on at other rates."""
        earlier, self._rates = self._rates, (messages or math.inf, size or math.inf)
        if self._rates != earlier:
            self._messages = _carried(self._messages, earlier[0], self._rates[0])
            self._bytes = _carried(self._bytes, earlier[1], self._rates[1])

    def plenty(self, size: int) -> bool:
        """Tell whether so many bytes are surely within it, whatever messages they hold."""
        return self._bytes >= size and self._messages * _SMALLEST >= size

    def charge(self, messages: int, size: int, now: float) -> float:
        """Take off what came; return for how many seconds it is in debt."""
        per_message, per_byte = self._rates
        passed, self._at = now - self._at, now
        self._messages = min(per_message * BURST, self._messages + passed * per_message)
        self._bytes = min(per_byte * BURST, self._bytes + passed * per_byte)
        if self.over_since is not None and self._above(0.5):
            self.over_since = None
        debt = 0.0
        if per_message < math.inf:
            self._messages -= messages
            debt = -self._messages / per_message
        if per_byte < math.inf:
            self._bytes -= size
            debt = max(debt, -self._bytes / per_byte)
        if debt <= 0:
            return 0.0
        if self.over_since is None:
            self.over_since = now
        return debt

    def full(self, now: float) -> bool:
        """Tell whether a new one would be the same."""
        self.charge(0, 0, now)
        return self._above(1.0)

    def _above(self, share: float) -> bool:
        return all(
            rate == math.inf or left >= rate * BURST * share
            for left, rate in zip((self._messages, self._bytes), self._rates, strict=True)
        )


class Verdict(NamedTuple):
    """What becomes of a connection after a piece.

    Attributes:
        wait: Seconds without reading.
        scope: Whose limit it is: `device` or `tenant`.
        tell: An event is due.
        end: It has been too much for too long.
    """

    wait: float
    scope: str
    tell: bool
    end: bool


class Meter:
    """Measures one connection."""

    __slots__ = ("_clock", "_longest", "device", "tenant")

    def __init__(
        self,
        device: Budget | None,
        tenant: Budget | None,
        longest: float,
        clock: Callable[[], float],
    ) -> None:
        self.device, self.tenant = device, tenant
        self._longest = longest
        self._clock = clock

    def plenty(self, size: int) -> bool:
        """Tell whether so many bytes can be taken at once."""
        return (self.device is None or self.device.plenty(size)) and (
            self.tenant is None or self.tenant.plenty(size)
        )

    def charge(self, messages: int, size: int) -> Verdict | None:
        """Take off what came; None is well."""
        now = self._clock()
        own = 0.0 if self.device is None else self.device.charge(messages, size, now)
        all_of_them = 0.0 if self.tenant is None else self.tenant.charge(messages, size, now)
        if own <= 0 and all_of_them <= 0:
            return None
        scope, budget = ("device", self.device) if own >= all_of_them else ("tenant", self.tenant)
        assert budget is not None
        tell = now - budget.told >= _TELL
        if tell:
            budget.told = now
        since = None if self.device is None else self.device.over_since
        end = own > 0 and since is not None and 0 < self._longest < now - since
        return Verdict(max(own, all_of_them), scope, tell, end)


class Limits:
    """The budgets of all devices and tenants that have limits."""

    def __init__(self, broker: BrokerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = TenantLimits.of_settings(broker)
        self._longest = broker.over_limit_seconds
        self._clock = clock
        self._own: Mapping[UUID, TenantLimits] = {}
        self._devices: dict[UUID, Budget] = {}
        self._tenants: dict[UUID, Budget] = {}

    def load(self, rows: Iterable[TenantLimitsRow]) -> bool:
        """Take over what tenants' configurations say; tell whether anything changed.

        A configuration that cannot be read is reported, and the settings hold for its tenant.
        """
        own: dict[UUID, TenantLimits] = {}
        for row in rows:
            try:
                said = msgspec.json.decode(row.limits, type=TenantLimits)
            except msgspec.DecodeError as error:
                _log.warning("limits not understood", tenant=str(row.tenant_id), why=str(error))
                continue
            own[row.tenant_id] = said.over(self._default)
        changed, self._own = own != self._own, own
        return changed

    def of(self, tenant_id: UUID) -> TenantLimits:
        """Return what holds for a tenant."""
        return self._own.get(tenant_id, self._default)

    def connections(self, tenant_id: UUID) -> float:
        """Return how many connections a tenant may have here."""
        return self.of(tenant_id).connections or math.inf

    def meter(self, device: Device) -> Meter | None:
        """Return what a new connection of a device is measured by, to be given to `done`."""
        limits = self.of(device.tenant_id)
        own = _budget(
            self._devices, device.id, limits.device_messages, limits.device_bytes, self._clock()
        )
        together = _budget(
            self._tenants, device.tenant_id, limits.messages, limits.bytes, self._clock()
        )
        if own is None and together is None:
            return None
        return Meter(own, together, self._longest, self._clock)

    def done(self, meter: Meter | None) -> None:
        """A connection does not need its meter any more."""
        for budget in () if meter is None else (meter.device, meter.tenant):
            if budget is not None:
                budget.users -= 1

    def forget(self) -> None:
        """Drop the budgets that nobody spends and that are full; debts stay."""
        now = self._clock()
        for budgets in (self._devices, self._tenants):
            for key in [k for k, b in budgets.items() if not b.users and b.full(now)]:
                del budgets[key]


def rate_event(device: Device, verdict: Verdict) -> EventRow:
    """Return the event that tells people of it: `rate_limited`, with whose limit it is."""
    data = msgspec.json.encode({"scope": verdict.scope, "seconds": round(verdict.wait, 3)})
    return EventRow(device.tenant_id, device.id, datetime.now(UTC), "rate_limited", data.decode())


def _carried(left: float, earlier: float, rate: float) -> float:
    """Return what is left of one bucket at another rate; debts stay."""
    if math.inf in (earlier, rate):
        return rate * BURST
    return min(left, rate * BURST)


def _budget(
    budgets: dict[UUID, Budget],
    key: UUID,
    messages: float | None,
    size: float | None,
    now: float,
) -> Budget | None:
    if not messages and not size:
        return None
    budget = budgets.get(key)
    if budget is None:
        budget = budgets[key] = Budget(messages or 0, size or 0, now)
    else:
        budget.change(messages or 0, size or 0)
    budget.users += 1
    return budget
