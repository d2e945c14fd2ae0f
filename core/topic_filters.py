"""Topic filters and names (MQTT 3.1.1, 4.7)."""

from typing import Final

MAX_TOPIC: Final = 512
"""Bytes of the longest topic or filter."""
MAX_LEVELS: Final = 128
SHARED_PREFIX: Final = "$share/"


def valid_filter(topic_filter: str) -> bool:
    """Tell whether a filter is well-formed and none of MQTT 5's shared subscriptions."""
    if not topic_filter or "\0" in topic_filter or topic_filter.startswith(SHARED_PREFIX):
        return False
    levels = topic_filter.split("/")
    if len(levels) > MAX_LEVELS or len(topic_filter.encode()) > MAX_TOPIC:
        return False
    for position, level in enumerate(levels):
        if (level != "#" and "#" in level) or (level != "+" and "+" in level):
            return False
        if level == "#" and position != len(levels) - 1:
            return False
    return True


def valid_topic(topic: bytes) -> str | None:
    """Return the name as text; None when nothing may be published there."""
    if not topic or len(topic) > MAX_TOPIC or topic.count(b"/") >= MAX_LEVELS:
        return None
    try:
        name = topic.decode()
    except UnicodeDecodeError:
        return None
    return None if "+" in name or "#" in name or "\0" in name else name


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a filter matches a topic."""
    levels, names = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and levels[0] in ("+", "#"):
        return False  # [MQTT-4.7.2-1]
    for position, level in enumerate(levels):
        if level == "#":
            return True  # also the parent level itself (4.7.1.2)
        if position >= len(names) or level not in ("+", names[position]):
            return False
    return len(levels) == len(names)
