"""What a value is worth: a score from 0 to 100, by the rules of the device's profile.

The rule (docs/telemetry.md says it for users). From 100 are taken, for all values of a message:

- `DUPLICATE` when its time is that of the message before it with the same metrics,
- `CLOCK` when its time is more than `AHEAD` after its receipt or more than `FAR` before it,
- `LATE` when its age at the receipt is over three intervals (`late_after`);

and for the value itself:

- `WRONG_TYPE` when it is not of the metric's type,
- `OUT_OF_RANGE` when it is not within the metric's range,
- `TOO_FAST` when it differs from the last good value (within range and of the type) of the same
  metric by more than `max_rate` allows for the time between them, but at least for the expected
  interval (a second, if there is none), since messages may arrive in a bunch. Only messages newer
  than the newest one are compared.

A derived value that could not be computed has 0; a null that was sent has what its message has.

A `Track` does this per device and metric list. Nearly every message is wholly good, so for each
metric it keeps a window in which a value certainly is: within the range, and within half of the
allowed change of an anchor. Two values in the window cannot differ by more than the allowed
change. Only a value outside it is judged in full, and the window moves there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from core.profiles.configuration import MetricRule, MetricType

DUPLICATE: Final = 50
CLOCK: Final = 30
LATE: Final = 20
WRONG_TYPE: Final = 80
OUT_OF_RANGE: Final = 60
TOO_FAST: Final = 40

_SECOND: Final = 1_000_000  # all times are in microseconds
AHEAD: Final = 5 * _SECOND
FAR: Final = 86_400 * _SECOND
_LEAST_LATE: Final = 60 * _SECOND
_UNKNOWN_LATE: Final = 3600 * _SECOND

_HALF: Final = 0.499  # a little less than a half, so that rounding cannot widen the window
_NOTHING: Final = (math.inf, -math.inf)  # a window without values

Value = float | None


class Limits(NamedTuple):
    """The rules of one metric.

    Attributes:
        rate: Greatest change a microsecond.
        spacing: Microseconds that a change is at least measured over.
    """

    low: float = -math.inf
    high: float = math.inf
    rate: float = math.inf
    spacing: int = _SECOND
    type: MetricType = "number"

    @classmethod
    def of(cls, rule: MetricRule | None) -> Limits:
        """Return the limits that a profile sets; none for a metric that it does not name."""
        if rule is None:
            return cls()
        low, high = rule.range or (-math.inf, math.inf)
        return cls(
            low,
            high,
            math.inf if rule.max_rate is None else rule.max_rate / _SECOND,
            _SECOND if rule.interval is None else round(rule.interval * _SECOND),
            rule.type,
        )

    def of_type(self, value: float) -> bool:
        """Tell whether a value is of the metric's type."""
        match self.type:
            case "number":
                return True
            case "integer":
                return value % 1 == 0
            case "boolean":
                return value in (0.0, 1.0)

    def acceptable(self, value: float) -> bool:
        """Tell whether a value can be compared with later ones."""
        return self.low <= value <= self.high and self.of_type(value)


class Yardstick:
    """The limits of a metric list.

    Attributes:
        late: Microseconds of age from which a message is late.
        typed: Positions of integers and booleans.
    """

    __slots__ = ("late", "limits", "typed")

    def __init__(self, rules: Sequence[MetricRule | None]) -> None:
        self.limits = tuple(Limits.of(rule) for rule in rules)
        self.typed = tuple(i for i, limit in enumerate(self.limits) if limit.type != "number")
        self.late = late_after(rules)


def late_after(rules: Sequence[MetricRule | None]) -> int:
    """Return the age in microseconds from which a message with these metrics is late."""
    intervals = [rule.interval for rule in rules if rule is not None and rule.interval is not None]
    if not intervals:
        return _UNKNOWN_LATE
    return max(round(3 * max(intervals) * _SECOND), _LEAST_LATE)


class Track:
    """What is remembered of one device's messages with one metric list, and their scores."""

    __slots__ = ("_highs", "_last", "_late", "_limits", "_lows", "_newest", "_older", "_typed")

    def __init__(self, yardstick: Yardstick) -> None:
        self._limits = yardstick.limits
        self._typed = yardstick.typed
        self._late = yardstick.late
        self._newest = 0
        self._last: Sequence[Value] = (None,) * len(self._limits)
        # Position → last good value and its time, where the newest value was not good. Its window
        # is empty meanwhile, so that the quick way cannot miss it.
        self._older: dict[int, tuple[float, int]] = {}
        self._lows = [_NOTHING[0]] * len(self._limits)
        self._highs = [_NOTHING[1]] * len(self._limits)

    def score(self, at: int, now: int, values: Sequence[float]) -> list[int] | None:
        """Return a score per value of a message without nulls; None when all are 100.

        Args:
            at: Time of the message.
            now: Time of its receipt.
            values: In the order of the metric list.
        """
        if at > self._newest and -AHEAD <= now - at <= self._late:
            for value, low, high in zip(values, self._lows, self._highs):  # noqa: B905  (is slower)
                if not low <= value <= high:
                    break
            else:
                if not self._typed or self._of_types(values):
                    self._newest = at
                    self._last = values
                    return None
        return self.judge(at, now, values)

    def score_one(self, at: int, now: int, values: Sequence[float]) -> list[int] | None:
        """Do what `score` does for a list of one metric, in half the time."""
        if (
            self._lows[0] <= values[0] <= self._highs[0]
            and at > self._newest
            and -AHEAD <= now - at <= self._late
            and (not self._typed or self._of_types(values))
        ):
            self._newest = at
            self._last = values
            return None
        return self.judge(at, now, values)

    def _of_types(self, values: Sequence[float]) -> bool:
        return all(self._limits[i].of_type(values[i]) for i in self._typed)

    def judge(
        self, at: int, now: int, values: Sequence[Value], failed: frozenset[int] = frozenset()
    ) -> list[int] | None:
        """Do what `score` does, the long way.

        Args:
            at: Time of the message.
            now: Time of its receipt.
            values: In the order of the metric list.
            failed: Positions of derived values that could not be computed.
        """
        newer = at > self._newest
        best = 100 - self._message_penalty(at, now)
        scores = [
            0 if i in failed else max(0, best - self._penalty(i, value, at if newer else None))
            for i, value in enumerate(values)
        ]
        if newer:
            self._remember(at, values)
        return scores if any(score != 100 for score in scores) else None

    def _message_penalty(self, at: int, now: int) -> int:
        age = now - at
        return (
            (DUPLICATE if at == self._newest else 0)
            + (CLOCK if age < -AHEAD or age > FAR else 0)
            + (LATE if age > self._late else 0)
        )

    def _penalty(self, position: int, value: Value, at: int | None) -> int:
        if value is None:
            return 0
        limits = self._limits[position]
        penalty = 0
        if not limits.of_type(value):
            penalty += WRONG_TYPE
        if not limits.low <= value <= limits.high:
            penalty += OUT_OF_RANGE
        if at is not None and limits.rate != math.inf:
            before, since = self._before(position)
            if before is not None and abs(value - before) > limits.rate * max(
                at - since, limits.spacing
            ):
                penalty += TOO_FAST
        return penalty

    def _before(self, position: int) -> tuple[Value, int]:
        """Return the last good value and its time."""
        return self._older.get(position) or (self._last[position], self._newest)

    def _remember(self, at: int, values: Sequence[Value]) -> None:
        last: list[Value] = []
        for i, (value, limits) in enumerate(zip(values, self._limits, strict=True)):
            if value is not None and limits.acceptable(value):
                self._older.pop(i, None)
                self._lows[i], self._highs[i] = _window(limits, value)
                last.append(value)
            else:
                before, since = self._before(i)
                if before is not None:
                    self._older[i] = (before, since)
                self._lows[i], self._highs[i] = _NOTHING
                last.append(None)
        self._last = last
        self._newest = at


def _window(limits: Limits, anchor: float) -> tuple[float, float]:
    """Return least and greatest of the values that are certainly good after the anchor."""
    change = limits.rate * limits.spacing
    half = change * _HALF
    low, high = max(limits.low, anchor - half), min(limits.high, anchor + half)
    # Beside a very large anchor the allowed change is lost in rounding.
    return (anchor, anchor) if high - low > change else (low, high)


def by_name(names: Iterable[str], scores: Sequence[int]) -> dict[str, int]:
    """Return the scores that are not 100 by metric."""
    return {name: score for name, score in zip(names, scores, strict=True) if score != 100}
