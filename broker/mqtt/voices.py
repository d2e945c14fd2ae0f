"""How commands and desired state are said to devices: this platform's way, and what others add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from broker.devices import Device
    from broker.mqtt.connection import Connection
    from broker.mqtt.downlink import Downlink
    from core.db.repositories.ingest_devices import CommandRow, Desired

_encode: Final = msgspec.json.Encoder().encode


class UndeliverableError(Exception):
    """A command that cannot be said to the device; says why."""


class Message(NamedTuple):
    """Something to be sent; the QoS is that of the subscription."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False


class Receiver(Protocol):
    """Where commands and desired state go: a connection, or a device behind one.

    Attributes:
        downlink: What it has been sent; None while it has subscribed to nothing of this.
    """

    device: Device
    downlink: Downlink | None

    @property
    def alive(self) -> bool:
        """Whether anything can be sent."""
        ...

    @property
    def voices(self) -> Sequence[Voice]:
        """How it may be spoken to."""
        ...

    def send(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        """Send a message that the database has for the device."""
        ...


class Voice(Protocol):
    """One way to say commands and desired state.

    A voice is given to the kind of receiver it was made for, and to no other.
    """

    def hears_desired(self, receiver: Any) -> bool:
        """Tell whether the device listens for its desired state."""
        ...

    def hears_commands(self, receiver: Any) -> bool:
        """Tell whether the device listens for commands."""
        ...

    def desired(
        self, receiver: Any, link: Downlink, twin: Desired, *, first: bool, retain: bool
    ) -> list[Message]:
        """Return what is said of a desired state.

        Args:
            receiver: Who listens.
            link: What it has been sent.
            twin: The state.
            first: The state is as it was when the device began to listen.
            retain: It is the first message for a subscription.
        """
        ...

    def command(self, receiver: Any, command: CommandRow) -> list[Message]:
        """Return what is said of a command; nothing when the device does not listen for it.

        Raises:
            UndeliverableError: It cannot be said.
        """
        ...


class NativeVoice:
    """This platform's own topics."""

    def hears_desired(self, receiver: Connection) -> bool:
        """See `Voice`."""
        return bool(receiver.subscribed("attributes/desired"))

    def hears_commands(self, receiver: Connection) -> bool:
        """See `Voice`."""
        return receiver.hears_commands

    def desired(
        self, receiver: Connection, link: Downlink, twin: Desired, *, first: bool, retain: bool
    ) -> list[Message]:
        """See `Voice`: the whole state."""
        return [
            Message(topic, twin.state.encode(), qos, retain)
            for topic, qos in receiver.subscribed("attributes/desired")
        ]

    def command(self, receiver: Connection, command: CommandRow) -> list[Message]:
        """See `Voice`."""
        payload = msgspec.Raw(command.payload.encode())
        body = _encode({"id": str(command.command_id), "payload": payload})
        return [
            Message(topic, body, qos)
            for topic, qos in receiver.subscribed(f"commands/{command.name}")
        ]
