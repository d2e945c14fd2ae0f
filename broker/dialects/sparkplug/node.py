"""What is known of one edge node between its birth and its death; pure, one object a connection.

Everything is made of births (NBIRTH, DBIRTH), so nothing of it outlives the connection: after a
restart of the broker the node connects again and gives birth again, and where it does not, it is
asked to (`Node Control/Rebirth`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from broker.dialects.sparkplug.payloads import DataType, Metric, Payload, Reading, read
from broker.ingest.payloads import PayloadError

BD_SEQ: Final = "bdSeq"
REBIRTH: Final = "Node Control/Rebirth"
_CONTROLS: Final = ("Node Control/", "Device Control/")
_SEQUENCE: Final = 256
MAX_ALIASES: Final = 20_000
"""Metrics that all births of one node may name."""


class Kind(StrEnum):
    """What a message is, by the third level of its topic."""

    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    NDATA = "NDATA"
    DDATA = "DDATA"

    @property
    def of_node(self) -> bool:
        """Whether it is of the node itself, not of one of its devices."""
        return self.value.startswith("N")


@dataclass(slots=True)
class Names:
    """The metrics of a node or of one of its devices, as its birth said."""

    types: dict[str, DataType] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    by_alias: dict[int, str] = field(default_factory=dict)


class Gap(PayloadError):  # noqa: N818  (a PayloadError like the others)
    """Something was missed: the node must give birth again before this can be understood."""


class Node:
    """One edge node.

    Attributes:
        born: It has given birth and not died since.
        bd_seq: Number of the life it is in; its NDEATH repeats it.
        devices: Its devices that have given birth and not died since.
        incomplete: Something was missed; it should give birth again.
    """

    def __init__(self) -> None:
        self.born = False
        self.bd_seq: int | None = None
        self.names = Names()
        self.devices: dict[str, Names] = {}
        self.incomplete = False
        self._next: int | None = None

    def take(self, kind: Kind, device: str | None, payload: Payload, now: int) -> Reading | None:
        """Take a message; return what it measured.

        Returns:
            None for a death of another life than this, which means nothing.

        Raises:
            Gap: It cannot be understood before the node gives birth again.
            PayloadError: It cannot be taken.
        """
        match kind:
            case Kind.NBIRTH:
                return self._node_birth(payload, now)
            case Kind.NDEATH:
                return self._node_death(payload)
            case Kind.DBIRTH | Kind.DDEATH if not self.born:
                self.incomplete = True
                raise Gap("no_birth", "", "the node has not given birth")
            case _:
                pass
        self._sequence(payload)
        assert kind is Kind.NDATA or device is not None
        match kind:
            case Kind.DBIRTH:
                names = self._names(payload, device)
                self.devices[device or ""] = names
                return self._read(names, payload, now)
            case Kind.DDEATH:
                self.devices.pop(device or "", None)
                return Reading({}, {}, {})
            case Kind.NDATA:
                names = self.names if self.born else None
            case _:
                names = self.devices.get(device or "")
        if names is None:
            self.incomplete = True
        return self._read(names, payload, now)

    def names_of(self, device: str | None) -> Names | None:
        """Return the metrics of the node or one of its devices, if it has given birth."""
        if device is None:
            return self.names if self.born else None
        return self.devices.get(device)

    def _node_birth(self, payload: Payload, now: int) -> Reading:
        names = self._names(payload, None, reset=True)
        reading = self._read(names, payload, now)
        self.bd_seq = _bd_seq(payload)
        self.born, self.incomplete = True, False
        self.names, self.devices = names, {}
        self._next = None if payload.seq is None else (payload.seq + 1) % _SEQUENCE
        return reading

    def _node_death(self, payload: Payload) -> Reading | None:
        bd_seq = _bd_seq(payload)
        if self.bd_seq is not None and bd_seq is not None and bd_seq != self.bd_seq:
            return None
        self.born, self._next = False, None
        self.names, self.devices = Names(), {}
        return Reading({}, {}, {})

    def _sequence(self, payload: Payload) -> None:
        if payload.seq is None:
            raise PayloadError("invalid_sequence", "/seq", "the message has no sequence number")
        if payload.seq >= _SEQUENCE:
            raise PayloadError("invalid_sequence", "/seq", "a sequence number is 0 to 255")
        if not self.born or payload.seq != self._next:
            self.incomplete = True
        self._next = (payload.seq + 1) % _SEQUENCE

    def _names(self, payload: Payload, device: str | None, *, reset: bool = False) -> Names:
        others = 0 if reset else sum(len(n.types) for d, n in self.devices.items() if d != device)
        if others + len(payload.metrics) > MAX_ALIASES:
            raise PayloadError(
                "too_many", "/metrics", f"the node has {MAX_ALIASES} metrics already"
            )
        names = Names()
        for position, metric in enumerate(payload.metrics):
            if metric.name is None:
                raise PayloadError(
                    "invalid_name", f"/metrics/{position}", "a metric of a birth has a name"
                )
            if metric.alias is not None:
                if metric.alias in names.by_alias:
                    raise PayloadError(
                        "invalid_alias",
                        f"/metrics/{position}",
                        f"the alias {metric.alias} is another metric's already",
                    )
                names.aliases[metric.name] = metric.alias
                names.by_alias[metric.alias] = metric.name
            if metric.datatype is not None:
                names.types[metric.name] = metric.datatype
        return names

    @staticmethod
    def _read(names: Names | None, payload: Payload, now: int) -> Reading:
        found: list[tuple[str, DataType | None, Metric]] = []
        for position, metric in enumerate(payload.metrics):
            name = metric.name
            if name is None and metric.alias is not None and names is not None:
                name = names.by_alias.get(metric.alias)
            if name is None:
                raise Gap(
                    "unknown_alias",
                    f"/metrics/{position}",
                    "no birth of this connection gave this metric a name",
                )
            if name == BD_SEQ or name.startswith(_CONTROLS):
                continue
            known = metric.datatype or (None if names is None else names.types.get(name))
            found.append((name, known, metric))
        return read(found, payload.time, now)


def _bd_seq(payload: Payload) -> int | None:
    for metric in payload.metrics:
        if metric.name == BD_SEQ and isinstance(metric.value, int):
            return metric.value
    return None
