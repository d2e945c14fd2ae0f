"""Which topics a client may use, and what they mean.

Denied is what nobody grants. `Rights` is what the server asks; `Topics` is the product's answer: a
device has its own topics, and only those that mean something. A device is named in its topics by
its id or by `me`.
"""

from enum import Enum
from typing import Final, Protocol
from uuid import UUID

from core.topic_filters import MAX_TOPIC, valid_filter
from core.topics import PREFIX


class Route(Enum):
    """What a PUBLISH is. All but `TOPIC`, which goes to its subscribers only, go into ingest.

    The last three are other platforms' languages, which only the embedded broker speaks.
    """

    TELEMETRY = "telemetry"
    ATTRIBUTES = "attributes"
    EVENTS = "events"
    RESPONSE = "response"
    TOPIC = "topic"
    THINGSBOARD = "thingsboard"
    SPARKPLUG = "sparkplug"
    PROVISION = "provision"


class Grant(Enum):
    """What a subscription is.

    `OWN` is a topic of the device API: what comes there is made for this device alone, from the
    database. `SHARED` is delivered from whoever publishes there.
    """

    DENIED = "denied"
    OWN = "own"
    SHARED = "shared"


class Rights(Protocol):
    """What one client may do."""

    def route(self, topic: bytes) -> Route | None:
        """Return what a PUBLISH to this topic is; None when the client may not publish there."""
        ...

    def grant(self, topic_filter: str) -> Grant:
        """Judge a well-formed filter."""
        ...

    def names(self, rest: str) -> tuple[str, ...]:
        """Return the spellings of a topic of the device API, by its part after the device."""
        ...


_EXACT: Final = {
    route.value.encode(): route for route in (Route.TELEMETRY, Route.ATTRIBUTES, Route.EVENTS)
}
"""Topics after the device → what they are."""
_ONE_NAME: Final = ((b"commands/", b"/response", Route.RESPONSE),)
"""The same with a level of the device's choice between two parts."""
_ME: Final = f"{PREFIX}me/"
_ME_BYTES: Final = _ME.encode()
_DOWN: Final = (("errors",), ("attributes", "desired"))


class Topics:
    """The topics of one device; the product's `Rights`."""

    __slots__ = ("_own",)

    def __init__(self, device_id: UUID) -> None:
        self._own = f"{PREFIX}{device_id}/"

    def route(self, topic: bytes) -> Route | None:
        """See `Rights`."""
        if topic.startswith(_ME_BYTES):
            rest = topic[len(_ME_BYTES) :]
        elif topic.startswith(own := self._own.encode()):
            rest = topic[len(own) :]
        else:
            return None
        known = _EXACT.get(rest)
        if known is not None:
            return known
        for head, tail, route in _ONE_NAME:
            if rest.startswith(head) and rest.endswith(tail) and len(topic) <= MAX_TOPIC:
                name = rest[len(head) : -len(tail)]
                return route if name and not set(name) & set(b"/+#\0") else None
        return None

    def grant(self, topic_filter: str) -> Grant:
        """See `Rights`: a filter must be the device's own and able to match something."""
        if not valid_filter(topic_filter):
            return Grant.DENIED
        prefix = next((p for p in (self._own, _ME) if topic_filter.startswith(p)), None)
        if prefix is None:
            return Grant.DENIED
        levels = topic_filter.removeprefix(prefix).split("/")
        name = levels[1] if len(levels) > 1 and levels[1] not in ("", "+", "#") else "any"
        possible = any(_matches(levels, topic) for topic in (*_DOWN, ("commands", name)))
        return Grant.OWN if possible else Grant.DENIED

    def names(self, rest: str) -> tuple[str, ...]:
        """See `Rights`."""
        return self._own + rest, _ME + rest


def _matches(levels: list[str], topic: tuple[str, ...]) -> bool:
    for position, level in enumerate(levels):
        if level == "#":
            return True
        if position >= len(topic) or level not in ("+", topic[position]):
            return False
    return len(levels) == len(topic)
