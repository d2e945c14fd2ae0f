"""Trees of topic filters and names (MQTT 3.1.1, 4.7): no scan of all filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")


class _Node(Generic[K]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[K]] = {}
        self.values: dict[K, int] = {}


class TopicTree(Generic[K]):
    """Filters by level; who subscribed, and the granted QoS.

    Looking a topic up visits the filters' nodes on its way, however many filters there are.
    """

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: _Node[K] = _Node()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, topic_filter: str, subscriber: K, qos: int) -> None:
        """Subscribe, or change the QoS of a subscription."""
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        if subscriber not in node.values:
            self._size += 1
        node.values[subscriber] = qos

    def remove(self, topic_filter: str, subscriber: K) -> None:
        """Unsubscribe; nothing happens when there is no such subscription."""
        path: list[tuple[_Node[K], str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            child = node.children.get(level)
            if child is None:
                return
            path.append((node, level))
            node = child
        if node.values.pop(subscriber, None) is None:
            return
        self._size -= 1
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.values or child.children:
                return
            del parent.children[level]

    def match(self, topic: str) -> dict[K, int]:
        """Return who subscribed to this topic, with the highest QoS of each (3.3.5)."""
        found: dict[K, int] = {}
        if not self._size:
            return found
        # [MQTT-4.7.2-1]: no wildcard at the first level for what begins with $.
        wild = not topic.startswith("$")
        nodes = [self._root]
        for level in topic.split("/"):
            below: list[_Node[K]] = []
            for node in nodes:
                children = node.children
                if (child := children.get(level)) is not None:
                    below.append(child)
                if wild:
                    if (child := children.get("+")) is not None:
                        below.append(child)
                    if (child := children.get("#")) is not None:
                        _merge(found, child.values)
            wild = True
            nodes = below
            if not nodes:
                return found
        for node in nodes:
            _merge(found, node.values)
            if (child := node.children.get("#")) is not None:
                _merge(found, child.values)
        return found


def _merge(found: dict[K, int], values: dict[K, int]) -> None:
    for subscriber, qos in values.items():
        if found.get(subscriber, -1) < qos:
            found[subscriber] = qos


class NameTree:
    """Topic names by level, to find those that a filter matches."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[str] = _Node()

    def add(self, topic: str) -> None:
        """Add a name."""
        node = self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.values[topic] = 0

    def remove(self, topic: str) -> None:
        """Remove a name that is there."""
        path: list[tuple[_Node[str], str]] = []
        node = self._root
        for level in topic.split("/"):
            path.append((node, level))
            node = node.children[level]
        node.values.pop(topic)
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.values or child.children:
                return
            del parent.children[level]

    def matching(self, topic_filter: str) -> Iterator[str]:
        """Return the names that a filter matches."""
        nodes, first = [self._root], True
        for level in topic_filter.split("/"):
            if level == "#":
                for node in nodes:
                    yield from _below(node, first)
                return
            below: list[_Node[str]] = []
            for node in nodes:
                if level == "+":
                    below.extend(
                        child
                        for name, child in node.children.items()
                        if not (first and name.startswith("$"))
                    )
                elif (child := node.children.get(level)) is not None:
                    below.append(child)
            nodes, first = below, False
        for node in nodes:
            yield from node.values


def _below(node: _Node[str], first: bool) -> Iterator[str]:
    stack = [node]
    while stack:
        here = stack.pop()
        yield from here.values
        stack.extend(
            child
            for name, child in here.children.items()
            if not (first and here is node and name.startswith("$"))
        )
