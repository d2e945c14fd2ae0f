"""Topics of Sparkplug B (Sparkplug 3.0, 4.1)."""

from typing import Final, NamedTuple

from broker.dialects.sparkplug.node import Kind
from core.topic_filters import matches

NAMESPACE: Final = "spBv1.0"
_START: Final = f"{NAMESPACE}/"
_STATE: Final = f"{NAMESPACE}/STATE/"
MAX_DEVICE: Final = 255
"""Characters of a device's id: as many as a device's name here."""


class Address(NamedTuple):
    """Where a message belongs; `device` is None for the node's own."""

    group: str
    kind: Kind
    edge: str
    device: str | None


def parse(topic: bytes) -> Address | None:
    """Return what a topic says; None when nobody may publish there."""
    try:
        levels = topic.decode().split("/")
    except UnicodeDecodeError:
        return None
    if len(levels) not in (4, 5) or levels[0] != NAMESPACE or not all(levels):
        return None
    if any(set(level) & set("+#\0") for level in levels):
        return None
    try:
        kind = Kind(levels[2])
    except ValueError:
        return None
    device = levels[4] if len(levels) == 5 else None
    if kind.of_node == (device is not None) or len(device or "") > MAX_DEVICE:
        return None
    return Address(levels[1], kind, levels[3], device)


def of_node(topic: bytes, group: str | None, edge: str) -> bool:
    """Tell whether a topic is in a node's own space, whatever it means there.

    Args:
        topic: Of a PUBLISH.
        group: The node's; None when it may be any.
        edge: The node's.
    """
    levels = topic.split(b"/")
    return (
        len(levels) >= 4
        and levels[0] == NAMESPACE.encode()
        and (group is None or levels[1] == group.encode())
        and levels[3] == edge.encode()
    )


def command(group: str, edge: str, device: str | None) -> str:
    """Return where a command to a node or to one of its devices goes."""
    if device is None:
        return f"{_START}{group}/NCMD/{edge}"
    return f"{_START}{group}/DCMD/{edge}/{device}"


def state(topic_filter: str) -> str | None:
    """Return the topic of the host's state that a filter asks for, if it asks for one host's."""
    if topic_filter.startswith(_STATE) and not set(topic_filter) & set("+#\0"):
        return topic_filter
    return None


def may_subscribe(topic_filter: str, group: str | None, edge: str) -> bool:
    """Tell whether a filter can match a command to this node, or a host's state.

    Args:
        topic_filter: Well-formed.
        group: The node's; None when it may be any.
        edge: The node's.
    """
    if state(topic_filter) is not None:
        return True
    levels = topic_filter.split("/")
    if len(levels) < 4 or levels[0] != NAMESPACE:
        return False  # `spBv1.0/#` would be everybody's
    asked, device = levels[1], levels[4] if len(levels) > 4 and levels[4] not in "+#" else "any"
    if asked in "+#" or (group is not None and asked != group):
        return False
    return any(matches(topic_filter, command(asked, edge, d)) for d in (None, device))
