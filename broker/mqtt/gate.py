"""Who may knock how often: limits by address, judged before TLS and before the database.

A wrong key is never a reason to turn an address away, or else one device could lock out the others
behind its router, and a stranger a device. It makes sign-ins from there wait, longer with each
failure and never longer than `LONGEST`; a right key is then accepted as ever.

Addresses are forgotten when they are quiet, and the oldest when there are more than `_KNOWN`. An
IPv6 client has a whole /64 to choose from, so that is what counts as its address.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from broker.metrics import BrokerMetrics

LONGEST: Final = 4.0
"""Seconds that a sign-in waits at most; clients wait longer for their CONNACK."""
_FREE: Final = 5.0  # failures without a wait
_FIRST: Final = 0.1  # seconds of the first wait; each further failure doubles it
_HALF_LIFE: Final = 60.0  # seconds in which half of the failures are forgotten
_BURST: Final = 2.0  # seconds' worth of connections at once
_KNOWN: Final = 20_000


class _Address:
    __slots__ = ("failed_at", "failures", "open", "tokens", "tokens_at")

    def __init__(self, tokens: float, now: float) -> None:
        self.open = 0
        self.tokens, self.tokens_at = tokens, now
        self.failures, self.failed_at = 0.0, now


class Gate:
    """Counts connections and failures by address; trusted networks are left out altogether."""

    def __init__(
        self,
        connections: int,
        per_second: float,
        trusted: Sequence[IPv4Network | IPv6Network],
        metrics: BrokerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: see the settings `address_*` and `trusted_networks`; 0 is no limit."""
        self._connections = connections or math.inf
        self._rate = per_second
        self._trusted = trusted
        self._turned_away = metrics.turned_away
        self._clock = clock
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._names: OrderedDict[str, str | None] = OrderedDict()

    def knock(self, host: str) -> bool:
        """Tell whether an address may connect now; counts as an attempt."""
        name = self._name(host)
        if name is None or (self._rate == 0 and self._connections == math.inf):
            return True
        address = self._address(name)
        if address.open >= self._connections:
            self._turned_away.labels("address_connections").inc()
            return False
        if self._rate:
            now = self._clock()
            most = self._rate * _BURST
            earned = (now - address.tokens_at) * self._rate
            address.tokens, address.tokens_at = min(most, address.tokens + earned), now
            if address.tokens < 1:
                self._turned_away.labels("address_rate").inc()
                return False
            address.tokens -= 1
        return True

    def opened(self, host: str) -> None:
        """A connection from an address is open; `closed` undoes it."""
        name = self._name(host)
        if name is not None and self._connections != math.inf:
            self._address(name).open += 1

    def closed(self, host: str) -> None:
        """A connection that was `opened` has ended."""
        name = self._name(host)
        if name is None:
            return
        address = self._addresses.get(name)
        if address is not None and address.open:
            address.open -= 1

    def failed(self, host: str) -> None:
        """Somebody there could not sign in."""
        name = self._name(host)
        if name is not None:
            address = self._address(name)
            address.failures = self._failures(address) + 1
            address.failed_at = self._clock()

    def wait(self, host: str) -> float:
        """Return how many seconds a sign-in from there waits."""
        name = self._name(host)
        address = None if name is None else self._addresses.get(name)
        if address is None:
            return 0.0
        over = self._failures(address) - _FREE
        return 0.0 if over < 0 else min(LONGEST, _FIRST * 2 ** min(over, 16))

    def _failures(self, address: _Address) -> float:
        return address.failures * 0.5 ** ((self._clock() - address.failed_at) / _HALF_LIFE)

    def _address(self, name: str) -> _Address:
        address = self._addresses.get(name)
        if address is None:
            address = self._addresses[name] = _Address(self._rate * _BURST, self._clock())
            while len(self._addresses) > _KNOWN:
                # Those with connections stay, or their count would be lost.
                oldest, kept = next(iter(self._addresses.items()))
                if kept.open:
                    self._addresses.move_to_end(oldest)
                    if len(self._addresses) > 2 * _KNOWN:
                        break
                    continue
                del self._addresses[oldest]
        else:
            self._addresses.move_to_end(name)
        return address

    def _name(self, host: str) -> str | None:
        """Return what counts as the address; None for one that is not limited."""
        if host in self._names:
            return self._names[host]
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return None  # a Unix socket
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._trusted):
            name = None
        elif isinstance(address, ipaddress.IPv6Address):
            name = str(ipaddress.ip_network((address, 64), strict=False))
        else:
            name = str(address)
        self._names[host] = name
        if len(self._names) > _KNOWN:
            self._names.popitem(last=False)
        return name
