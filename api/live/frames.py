"""What travels over WebSockets, by the requirements' message form."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec


class Channel(StrEnum):
    """What a client can subscribe to."""

    DEVICE_DATA = "device-data"
    ALERTS = "alerts"
    DASHBOARD = "dashboard"


class Inbound(msgspec.Struct):
    """A message of a client."""

    type: str
    channel: str = ""
    payload: dict[str, Any] = {}


class _Event(msgspec.Struct):
    type: str = ""


_inbound = msgspec.json.Decoder(Inbound)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_event = msgspec.json.Decoder(_Event)
_encode = msgspec.json.Encoder().encode


def now() -> str:
    """Return this instant in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str | bytes) -> Inbound:
    """Read a client's message.

    Raises:
        ValueError: It is not of the documented form.
    """
    # msgspec's errors are ValueErrors.
    return _inbound.decode(text)


def message(kind: str, channel: str, payload: dict[str, Any]) -> str:
    """Return a message of the server's own."""
    return _encode(
        {"type": kind, "channel": channel, "payload": payload, "timestamp": now()}
    ).decode()


def failure(code: str, detail: str, channel: str = "", **more: Any) -> str:
    """Return an error message."""
    return message("error", channel, {"code": code, "message": detail, **more})


def from_bus(channel: Channel, data: bytes) -> list[str]:
    """Turn one message of the bus into messages for the clients of a channel.

    The payloads are passed on as they came, without being decoded and encoded again.

    Raises:
        ValueError: It is not what the bus documents.
    """
    match channel:
        case Channel.DEVICE_DATA:
            payloads = [bytes(raw).decode() for raw in _raws.decode(data)]
            kind = "data"
        case Channel.ALERTS:
            if not _event.decode(data).type.startswith("alert"):
                return []
            payloads, kind = [data.decode()], "alert"
        case Channel.DASHBOARD:
            _event.decode(data)
            payloads, kind = [data.decode()], "data"
    head = f'{{"type":"{kind}","channel":"{channel}","payload":'
    tail = f',"timestamp":"{now()}"}}'
    return [f"{head}{payload}{tail}" for payload in payloads]
