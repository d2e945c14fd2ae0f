"""The triggers that watch one metric of a device: mostly one comparison, however many they are.

A trigger sleeps while there is an interval of values that leave its state as it is, whatever the
time (`CompiledTrigger.quiet`). A measurement within the intersection of these intervals is looked
at by the triggers that are awake only: those that wait for `for` or a cooldown, and expressions.
The outcome is the same as if each looked at every measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from uuid import UUID

import msgspec

from core.dsl.telemetry_trigger import CompiledTrigger, TriggerState


class Watch(msgspec.Struct, frozen=True):
    """One compiled trigger of one published version; `source` is its JSON, `digest` the SHA-256."""

    tenant_id: UUID
    workflow_id: UUID
    version: int
    index: int
    source: bytes
    digest: bytes
    trigger: CompiledTrigger


class Binding:
    """A trigger that watches a device, with what it remembers of it."""

    __slots__ = ("state", "watch")

    def __init__(self, watch: Watch, state: TriggerState) -> None:
        self.watch = watch
        self.state = state


class MetricWatch:
    """What watches one metric of one device.

    Attributes:
        metric: Its name.
        bindings: All of them.
    """

    __slots__ = ("_asleep", "_awake", "_high", "_judged", "_low", "bindings", "metric")

    def __init__(self, metric: str, bindings: tuple[Binding, ...]) -> None:
        self.metric = metric
        self.bindings = bindings
        self._judged = 0
        self._asleep: tuple[Binding, ...] = ()
        self.settle()

    def settle(self) -> None:
        """Arrange anew after a state has changed."""
        self.wake()
        asleep: list[Binding] = []
        awake: list[Binding] = []
        low, high = -math.inf, math.inf
        for binding in self.bindings:
            quiet = binding.watch.trigger.quiet(binding.state)
            if quiet is None:
                awake.append(binding)
            else:
                asleep.append(binding)
                low, high = max(low, quiet[0]), min(high, quiet[1])
        self._asleep, self._awake = tuple(asleep), tuple(awake)
        self._low, self._high = low, high

    def wake(self) -> None:
        """Tell those asleep what has been judged for them meanwhile."""
        for binding in self._asleep:
            state = binding.state
            if state.judged < self._judged:
                state.judged = self._judged

    def due(self, value: float, at: int, now: int) -> tuple[Binding, ...]:
        """Return the triggers that must look at a measurement.

        Args:
            value: The metric's value.
            at: When it was measured, in microseconds since 1970.
            now: When it was received.
        """
        if self._low < value < self._high:
            time = at if at < now else now
            if time > self._judged:
                self._judged = time
            return self._awake
        self.wake()
        return self.bindings


def by_metric(bindings: Iterable[Binding]) -> tuple[MetricWatch, ...]:
    """Group triggers by the metric that they watch."""
    groups: dict[str, list[Binding]] = {}
    for binding in bindings:
        groups.setdefault(binding.watch.trigger.metric, []).append(binding)
    return tuple(MetricWatch(metric, tuple(group)) for metric, group in groups.items())
