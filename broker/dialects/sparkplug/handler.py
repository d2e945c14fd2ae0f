"""Messages of Sparkplug B, and commands to edge nodes and their devices."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from broker.dialects.children import Child, Family, Nursery
from broker.dialects.rights import DialectTopics
from broker.dialects.sparkplug import topics
from broker.dialects.sparkplug.node import REBIRTH, Gap, Kind, Names, Node
from broker.dialects.sparkplug.payloads import (
    CommandError,
    DataType,
    Reading,
    decode,
    encode_command,
)
from broker.ingest.batching import Part
from broker.ingest.intake import Ingest
from broker.ingest.payloads import PayloadError, Sample, Telemetry
from broker.mqtt.connection import Connection
from broker.mqtt.voices import Message, UndeliverableError
from core.db.repositories.ingest import ResponseRow
from core.profiles.dialects import SparkplugRule

if TYPE_CHECKING:
    from uuid import UUID

    from broker.devices import Device
    from broker.mqtt.downlink import Downlink
    from core.db.repositories.ingest_devices import CommandRow, Desired
    from core.topics_acl import Route

_log = structlog.get_logger(__name__)

REBIRTH_PAUSE: Final = 5.0
"""Seconds between two requests for a rebirth."""
MAX_EXPECTED: Final = 100
"""Commands of a device that wait for the metrics which answer them."""
_REBIRTH_COMMAND: Final = "rebirth"

Work = Coroutine[Any, Any, None]


class Edge(Family):
    """One edge node and the devices behind it.

    Attributes:
        node: What it said of itself.
        group: By which it speaks; known from its first message.
        edge: Its edge node id.
        expected: Commands that were sent: id → metrics, of the node or a device by its name.
    """

    def __init__(
        self, connection: Connection, rule: SparkplugRule, edge: str, nursery: Nursery
    ) -> None:
        super().__init__(connection, rule.max_children, (DEVICE_VOICE,), nursery)
        self.node = Node()
        self.group: str | None = rule.group
        self.edge = edge
        self.rule = rule
        self.expected: dict[str | None, dict[UUID, frozenset[str]]] = {}
        self._asked = float("-inf")

    def ask_rebirth(self, now: float) -> None:
        """Let the node give birth again, unless it was asked a moment ago."""
        if self.group is None or now - self._asked < REBIRTH_PAUSE:
            return
        self._asked = now
        payload = encode_command(
            {REBIRTH: True}, {REBIRTH: DataType.BOOLEAN}, {}, int(time.time() * 1000)
        )
        self.connection.tell(topics.command(self.group, self.edge, None), payload)

    def expect(self, device: str | None, command_id: UUID, metrics: frozenset[str]) -> None:
        """A command was sent: the next report of all its metrics answers it."""
        waiting = self.expected.setdefault(device, {})
        waiting[command_id] = metrics
        if len(waiting) > MAX_EXPECTED:
            del waiting[next(iter(waiting))]

    def answered(self, device: str | None, values: Mapping[str, Any]) -> list[UUID]:
        """Return the commands that a report answers."""
        waiting = self.expected.get(device)
        if not waiting:
            return []
        done = [command for command, metrics in waiting.items() if metrics <= values.keys()]
        for command in done:
            del waiting[command]
        return done


class Sparkplug:
    """Handles the messages of all edge nodes."""

    def __init__(self, ingest: Ingest, nursery: Nursery) -> None:
        self._ingest = ingest
        self._nursery = nursery

    def edge(self, connection: Connection) -> Edge | None:
        """Return the edge node of a connection; None when it is none."""
        if connection.family is None:
            rights = connection.rights
            if not isinstance(rights, DialectTopics) or rights.sparkplug is None:
                return None
            connection.family = Edge(connection, rights.sparkplug, rights.edge, self._nursery)
        return connection.family if isinstance(connection.family, Edge) else None

    def subscribed(self, connection: Connection, topic_filter: str) -> None:
        """Tell a node that its host application, this platform, is there (Sparkplug 3.0, 5.3)."""
        topic = topics.state(topic_filter)
        if topic is not None:
            state = json.dumps({"online": True, "timestamp": int(time.time() * 1000)})
            connection.tell(topic, state.encode(), retain=True)

    def handle(
        self, part: Part, device: Device, route: Route, topic: bytes, payload: bytes, now: int
    ) -> Work | None:
        """See `Handler`."""
        connection = part.target
        assert isinstance(connection, Connection)
        address = topics.parse(topic)
        edge = self.edge(connection)
        if address is None:
            what = "not a topic of a birth, death or data message of a node or device"
            error = PayloadError("invalid_topic", "", what)
            self._ingest.bury(part, device, topic, payload, now, error)
            return None
        if edge is None:
            self._ingest.bury(
                part, device, topic, payload, now,
                PayloadError("two_dialects", "", "the connection speaks as a gateway already"),
            )  # fmt: skip
            return None
        edge.group = address.group
        name = address.device
        child = None if name is None else edge.get(name)
        concerned = device if child is None else child.device
        try:
            reading = edge.node.take(address.kind, name, decode(payload), now)
        except PayloadError as error:
            if edge.node.incomplete or isinstance(error, Gap):
                part.then(partial(edge.ask_rebirth, time.monotonic()))
            self._ingest.bury(part, concerned, topic, payload, now, error)
            return None
        if edge.node.incomplete:
            part.then(partial(edge.ask_rebirth, time.monotonic()))
        if reading is None:
            return None  # the death of another life
        match address.kind:
            case Kind.NDEATH:
                edge.close()
            case Kind.DDEATH:
                assert name is not None
                edge.leave(name)
            case Kind.NBIRTH | Kind.NDATA:
                if address.kind is Kind.NBIRTH:
                    edge.close()  # devices are dead until their own births (Sparkplug 3.0, 5.5)
                    part.then(connection.wake)
                self._store(part, device, topic, payload, reading, edge, None, now)
            case _ if child is not None:
                self._store_child(child, topic, payload, reading, edge, now)
                if address.kind is Kind.DBIRTH:
                    child.wake()
            case _:
                assert name is not None
                return self._later(part, edge, name, topic, payload, reading, now)
        return None

    async def _later(
        self,
        part: Part,
        edge: Edge,
        name: str,
        topic: bytes,
        payload: bytes,
        reading: Reading,
        now: int,
    ) -> None:
        """Bring the device that is not here, and take its message then."""
        title = f"{edge.group}/{edge.edge}/{name}"
        profiles = [] if edge.rule.profile is None else [edge.rule.profile]
        refused = await edge.fetch({name: title}, profiles)
        child = edge.get(name)
        if name in refused:
            gateway = edge.connection.device
            self._ingest.bury(part, gateway, topic, payload, now, refused[name])
        elif child is not None:
            self._store_child(child, topic, payload, reading, edge, now)

    def _store_child(
        self, child: Child, topic: bytes, payload: bytes, reading: Reading, edge: Edge, now: int
    ) -> None:
        own = Part(child.device, None)
        own.bytes = len(payload)
        self._store(own, child.device, topic, payload, reading, edge, child.name, now)
        self._ingest.submit(own)

    def _store(
        self,
        part: Part,
        device: Device,
        topic: bytes,
        payload: bytes,
        reading: Reading,
        edge: Edge,
        name: str | None,
        now: int,
    ) -> None:
        try:
            self._ingest.measured(
                part, device, _telemetry(reading.samples, reading.attributes), now
            )
            # What was true once sets nothing off now.
            bindings, device.bindings = device.bindings, ()
            try:
                self._ingest.measured(part, device, _telemetry(reading.historical, {}), now)
            finally:
                device.bindings = bindings
        except PayloadError as error:
            self._ingest.bury(part, device, topic, payload, now, error)
            return
        values: dict[str, Any] = dict(reading.attributes)
        for sample in reading.samples.values():
            values |= sample
        for command_id in edge.answered(name, values):
            response = msgspec.json.encode({"metrics": values}).decode()
            part.effect().responses.append(ResponseRow(command_id, device.id, response))


def _telemetry(
    groups: Mapping[int | None, dict[str, float | None]], attributes: dict[str, Any]
) -> Telemetry:
    return Telemetry([Sample(at, values) for at, values in groups.items()], attributes)


class _Voice(ABC):
    """Commands as NCMD or DCMD: the command's payload holds the metrics' new values."""

    def hears_desired(self, receiver: Connection | Child) -> bool:
        """See `Voice`."""
        return False

    def desired(
        self,
        receiver: Connection | Child,
        link: Downlink,
        twin: Desired,
        *,
        first: bool,
        retain: bool,
    ) -> list[Message]:
        """See `Voice`."""
        return []

    def hears_commands(self, receiver: Connection | Child) -> bool:
        """See `Voice`."""
        edge, name = self._place(receiver)
        if edge is None or edge.group is None or edge.node.names_of(name) is None:
            return False
        return edge.connection.granted(topics.command(edge.group, edge.edge, name)) is not None

    def command(self, receiver: Connection | Child, command: CommandRow) -> list[Message]:
        """See `Voice`.

        Raises:
            UndeliverableError: Its values fit no metrics.
        """
        edge, name = self._place(receiver)
        names = None if edge is None else edge.node.names_of(name)
        if edge is None or edge.group is None or names is None:
            return []
        topic = topics.command(edge.group, edge.edge, name)
        qos = edge.connection.granted(topic)
        if qos is None:
            return []
        payload = _command(command, names)
        metrics = frozenset(msgspec.json.decode(command.payload))
        if metrics:
            edge.expect(name, command.command_id, metrics)
        return [Message(topic, payload, qos)]

    @abstractmethod
    def _place(self, receiver: Connection | Child) -> tuple[Edge | None, str | None]: ...


class _NodeVoice(_Voice):
    def _place(self, receiver: Connection | Child) -> tuple[Edge | None, str | None]:
        family = receiver.family if isinstance(receiver, Connection) else None
        return (family if isinstance(family, Edge) else None), None


class _DeviceVoice(_Voice):
    def _place(self, receiver: Connection | Child) -> tuple[Edge | None, str | None]:
        if isinstance(receiver, Child) and isinstance(receiver.family, Edge):
            return receiver.family, receiver.name
        return None, None


def _command(command: CommandRow, names: Names) -> bytes:
    now = int(time.time() * 1000)
    if command.name == _REBIRTH_COMMAND:
        return encode_command({REBIRTH: True}, {REBIRTH: DataType.BOOLEAN}, {}, now)
    values = msgspec.json.decode(command.payload)
    if not values:
        raise UndeliverableError("the payload holds no metrics")
    try:
        return encode_command(values, names.types, names.aliases, now)
    except CommandError as error:
        raise UndeliverableError(str(error)) from error


NODE_VOICE: Final = _NodeVoice()
DEVICE_VOICE: Final = _DeviceVoice()
