"""Commands and desired state as ThingsBoard's clients hear them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from broker.dialects.thingsboard import topics
from broker.dialects.thingsboard.payloads import changes, encode, number_of
from broker.mqtt.voices import Message
from core.db.repositories.ingest_devices import CommandRow, Desired

if TYPE_CHECKING:
    from broker.dialects.children import Child
    from broker.mqtt.connection import Connection
    from broker.mqtt.downlink import Downlink

_QOS: Final = 1


def _changes(link: Downlink, twin: Desired, *, first: bool) -> dict[str, object]:
    """Return what changed of the shared attributes; a client asks for what there was before."""
    before, link.state = link.state, msgspec.json.decode(twin.state)
    return {} if first else changes(before, link.state)


def _params(command: CommandRow) -> dict[str, object]:
    return {"method": command.name, "params": msgspec.Raw(command.payload.encode())}


class DeviceVoice:
    """Of the device API, to a device's own connection."""

    def hears_desired(self, receiver: Connection) -> bool:
        """See `Voice`."""
        return topics.ATTRIBUTES in receiver.session.filters

    def hears_commands(self, receiver: Connection) -> bool:
        """See `Voice`."""
        return any(f.startswith(topics.RPC_REQUEST) for f in receiver.session.filters)

    def desired(
        self, receiver: Connection, link: Downlink, twin: Desired, *, first: bool, retain: bool
    ) -> list[Message]:
        """See `Voice`: an object of the changed attributes."""
        changed = _changes(link, twin, first=first)
        qos = receiver.session.filters.get(topics.ATTRIBUTES, 0)
        return [Message(topics.ATTRIBUTES, encode(changed), qos)] if changed else []

    def command(self, receiver: Connection, command: CommandRow) -> list[Message]:
        """See `Voice`: a call from the server."""
        topic = f"{topics.RPC_REQUEST}{number_of(command.command_id)}"
        qos = receiver.granted(topic)
        return [] if qos is None else [Message(topic, encode(_params(command)), qos)]


class GatewayVoice:
    """Of the gateway API, to a device behind a gateway."""

    def hears_desired(self, receiver: Child) -> bool:
        """See `Voice`."""
        return topics.GATEWAY_ATTRIBUTES in receiver.family.connection.session.filters

    def hears_commands(self, receiver: Child) -> bool:
        """See `Voice`."""
        return topics.GATEWAY_RPC in receiver.family.connection.session.filters

    def desired(
        self, receiver: Child, link: Downlink, twin: Desired, *, first: bool, retain: bool
    ) -> list[Message]:
        """See `Voice`."""
        changed = _changes(link, twin, first=first)
        if not changed:
            return []
        payload = encode({"device": receiver.name, "data": changed})
        return [Message(topics.GATEWAY_ATTRIBUTES, payload, _QOS)]

    def command(self, receiver: Child, command: CommandRow) -> list[Message]:
        """See `Voice`."""
        data = {"id": number_of(command.command_id)} | _params(command)
        payload = encode({"device": receiver.name, "data": data})
        return [Message(topics.GATEWAY_RPC, payload, _QOS)]
