"""Which topics a device may use: its own, and only those that mean something.

A device is named in its topics by its id or by `me`.
"""

from enum import Enum
from typing import Final
from uuid import UUID

from core.topics import PREFIX

MAX_TOPIC: Final = 512
"""Bytes of the longest topic or filter; all of ours are shorter."""


class Route(Enum):
    """What a device may publish."""

    TELEMETRY = "telemetry"
    ATTRIBUTES = "attributes"
    EVENTS = "events"
    RESPONSE = "response"


class Topics:
    """The topics of one device."""

    __slots__ = ("_prefixes", "_routes")

    def __init__(self, device_id: UUID) -> None:
        self._prefixes = (f"{PREFIX}{device_id}/", f"{PREFIX}me/")
        self._routes = {
            (prefix + route.value).encode(): route
            for prefix in self._prefixes
            for route in (Route.TELEMETRY, Route.ATTRIBUTES, Route.EVENTS)
        }

    def route(self, topic: bytes) -> Route | None:
        """Return what a PUBLISH to this topic is; None when the device may not publish there."""
        known = self._routes.get(topic)
        if known is not None:
            return known
        for prefix in self._prefixes:
            head = f"{prefix}commands/".encode()
            if topic.startswith(head) and topic.endswith(b"/response"):
                name = topic[len(head) : -len(b"/response")]
                return Route.RESPONSE if name and not set(name) & set(b"/+#\0") else None
        return None

    def may_subscribe(self, topic_filter: str) -> bool:
        """Tell whether a filter is valid, is the device's own, and can ever match something."""
        if len(topic_filter.encode()) > MAX_TOPIC or "\0" in topic_filter:
            return False
        prefix = next((p for p in self._prefixes if topic_filter.startswith(p)), None)
        if prefix is None:
            return False
        levels = topic_filter.removeprefix(prefix).split("/")
        for position, level in enumerate(levels):
            if (level != "#" and "#" in level) or (level != "+" and "+" in level):
                return False
            if level == "#" and position != len(levels) - 1:
                return False
        name = levels[1] if len(levels) > 1 and levels[1] not in ("", "+", "#") else "any"
        down = (("errors",), ("attributes", "desired"), ("commands", name))
        return any(_matches(levels, topic) for topic in down)

    def names(self, rest: str) -> tuple[str, ...]:
        """Return both spellings of a topic, by its part after the device."""
        return tuple(prefix + rest for prefix in self._prefixes)


def _matches(levels: list[str], topic: tuple[str, ...]) -> bool:
    for position, level in enumerate(levels):
        if level == "#":
            return True
        if position >= len(topic) or level not in ("+", topic[position]):
            return False
    return len(levels) == len(topic)


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a filter matches a topic (MQTT 3.1.1, 4.7)."""
    return _matches(topic_filter.split("/"), tuple(topic.split("/")))
