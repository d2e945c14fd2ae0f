"""What travels over WebSockets, by the requirements' message form."""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
import structlog

logger = structlog.get_logger(__name__)


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


class Bundle:
    """One message of the bus, for all clients of one channel.

    It becomes frames when the first of them is sent it: what a slow client never gets costs next
    to nothing.

    Attributes:
        size: About how many frames it becomes.
    """

    __slots__ = ("_channel", "_data", "_frames", "_whole", "size")

    def __init__(self, channel: Channel, data: bytes) -> None:
        self._channel = channel
        self._data = data
        self._frames: list[str] | None = None
        self._whole: list[str] | None = None
        self.size = max(1, data.count(b'"device_id"')) if channel is Channel.DEVICE_DATA else 1

    def frames(self) -> list[str]:
        """Return the messages for a client; none when the bus's is not what it documents."""
        if self._frames is None:
            self._frames = self._made(_from_bus)
        return self._frames

    def whole(self) -> list[str]:
        """Return them for a client that takes measurements in batches."""
        if self._channel is not Channel.DEVICE_DATA:
            return self.frames()
        if self._whole is None:
            self._whole = self._made(_batch)
        return self._whole

    def _made(self, make: Callable[[Channel, bytes], list[str]]) -> list[str]:
        try:
            return make(self._channel, self._data)
        except ValueError as error:
            logger.warning("live.bad_message", channel=self._channel, error=str(error))
            return []


def _batch(channel: Channel, data: bytes) -> list[str]:
    _raws.decode(data)
    head = f'{{"type":"batch","channel":"{channel}","payload":'
    return [f'{head}{data.decode()},"timestamp":"{now()}"}}']


def _from_bus(channel: Channel, data: bytes) -> list[str]:
    # The payloads are passed on as they came, without being decoded and encoded again.
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
