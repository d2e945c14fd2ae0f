"""Telemetry triggers: when does a stream of measurements of one device start an automation?

Pure: a trigger is compiled once and then stepped with one measurement at a time; what it has to
remember is in `TriggerState`, which the caller stores. The invariants, cited in the code:

1. Measurements are judged in the order of their receipt. One that is not newer than the newest
   judged one is ignored, so a message that is delivered twice cannot move the state twice.
2. A device's clock may be ahead; its measurements are judged as of their receipt then, so that a
   wrong clock cannot block the trigger until the real time has caught up.
3. The state turns active when the condition is met and is released only when the value has left
   the hysteresis band. An activation fires at most once.
4. It fires on a measurement that meets the condition, once the activation has lasted `for` and
   the last firing is `cooldown` ago; never twice in one millisecond, since the millisecond is
   part of the event's key.
5. An expression that raises or does not answer with a boolean counts as neither met nor unmet:
   the state stays as it is and the error is the caller's to report.
"""

import math
import operator
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import IntEnum
from typing import Any, Final, Self
from uuid import UUID

from pydantic import ValidationError

from core.dsl.durations import parse_duration
from core.dsl.expressions import Expression, ExpressionError, compile_expression
from core.dsl.triggers import ExpressionRule, TelemetryTrigger
from core.errors import FieldError, InvalidInputError

_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}


class Step(IntEnum):
    """What one measurement did to a trigger."""

    NOTHING = 0
    CHANGED = 1
    """The state changed and must be stored."""
    FIRED = 2
    """The trigger fired; the state changed and must be stored with the event."""


class TriggerState:
    """What a trigger remembers about one device. Times are microseconds since 1970, UTC.

    Attributes:
        active: The condition has held since `since` and has not been released.
        fired: It fired during this activation.
        since: Time of the measurement that began the activation.
        last_fired: Time of the measurement it fired on last.
        judged: Time of the newest judged measurement; not stored, see invariant 1.
    """

    __slots__ = ("active", "fired", "judged", "last_fired", "since")

    def __init__(
        self,
        *,
        active: bool = False,
        fired: bool = False,
        since: int | None = None,
        last_fired: int | None = None,
    ) -> None:
        self.active = active
        self.fired = fired
        self.since = since
        self.last_fired = last_fired
        self.judged = max(since or 0, last_fired or 0)


def _microseconds(duration: str | None) -> int:
    return 0 if duration is None else parse_duration(duration) // timedelta(microseconds=1)


class CompiledTrigger:
    """A telemetry trigger that is ready to judge measurements.

    Attributes:
        device_id: The only device it watches; None is any.
        device_type: The only profile whose devices it watches; None is any.
        metric: Name of the metric it looks at.
        min_quality: Score below which a measurement is not to be judged at all.
        needs_context: The condition is an expression; `observe` wants a context.
    """

    __slots__ = (
        "_compare",
        "_cooldown",
        "_expression",
        "_hold",
        "_op",
        "_release",
        "_threshold",
        "device_id",
        "device_type",
        "metric",
        "min_quality",
        "needs_context",
    )

    def __init__(self, trigger: TelemetryTrigger) -> None:
        self.metric = trigger.metric
        self.min_quality = trigger.min_quality
        self.device_type = trigger.device_type
        self.device_id = trigger.device_id
        self._hold = _microseconds(trigger.for_)
        self._cooldown = _microseconds(trigger.cooldown)
        self._expression: Expression | None = None
        self._op, self._compare, self._threshold, self._release = "", operator.gt, 0.0, 0.0
        rule = trigger.when
        if isinstance(rule, ExpressionRule):
            self._expression = compile_expression(rule.expr)
        else:
            self._op = rule.op
            self._compare = _COMPARISONS[rule.op]
            self._threshold = rule.value
            # The value at which the same comparison must stop holding for the release.
            above = rule.op in (">", ">=")
            self._release = rule.value + (-trigger.hysteresis if above else trigger.hysteresis)
        self.needs_context = self._expression is not None

    @classmethod
    def compile(cls, definition: Mapping[str, Any]) -> Self:
        """Compile a trigger as it stands in an automation's definition.

        Raises:
            InvalidInputError: A field is missing or wrong, or the expression does not parse.
        """
        try:
            return cls(TelemetryTrigger.model_validate(definition))
        except ValidationError as error:
            faults = tuple(
                FieldError("".join(f"/{part}" for part in fault["loc"]), fault["msg"])
                for fault in error.errors()
            )
            raise InvalidInputError("the telemetry trigger is malformed", errors=faults) from error
        except ExpressionError as error:
            raise InvalidInputError(
                "the telemetry trigger's expression is wrong",
                errors=(FieldError("/when/expr", error.detail),),
            ) from error

    def applies_to(self, device_id: UUID, device_type: str) -> bool:
        """Tell whether it watches this device of this profile."""
        if self.device_id is not None and self.device_id != device_id:
            return False
        return self.device_type is None or self.device_type == device_type

    def observe(
        self,
        state: TriggerState,
        time: int,
        now: int,
        value: float,
        context: Mapping[str, Any] | None = None,
    ) -> Step:
        """Judge one measurement and move `state` accordingly.

        Args:
            state: The device's state, changed in place.
            time: When the device measured, in microseconds since 1970.
            now: When the message was received.
            value: The metric's value.
            context: What an expression sees: `value`, `values`, `quality`, `device`, `trigger`.

        Raises:
            ExpressionError: The expression failed; the state is unchanged (invariant 5).
        """
        time = min(time, now)  # invariant 2
        if time <= state.judged:
            return Step.NOTHING  # invariant 1
        if self._expression is None:
            met = self._compare(value, self._threshold)
        else:
            met = self._expression.condition(context or {})
        state.judged = time
        step = Step.NOTHING
        if not state.active:
            if not met:
                return step
            state.active, state.fired, state.since = True, False, time
            step = Step.CHANGED
        elif not met:
            if not self._released(value):
                return step
            state.active, state.fired, state.since = False, False, None  # invariant 3
            return Step.CHANGED
        if state.fired or time - (state.since or 0) < self._hold:
            return step
        last = state.last_fired
        if last is not None and (time - last < self._cooldown or time // 1000 == last // 1000):
            return step  # invariant 4: it may still fire later in this activation
        state.fired, state.last_fired = True, time
        return Step.FIRED

    def quiet(self, state: TriggerState) -> tuple[float, float] | None:
        """Return an open interval of values which leave `state` as it is, at whatever time.

        So of any number of triggers with such intervals one comparison tells whether any must look
        at a measurement. None where there is no such interval: then `observe` must see every one.
        """
        if self._op not in (">", ">=", "<", "<=") or self.min_quality:
            return None  # (with a least quality, some are not to be judged at all)
        if state.active and not state.fired:
            return None  # it waits for `for` or `cooldown`, so the time counts
        # Inactive, it stays so short of the threshold; fired, it stays so up to the release.
        above = self._op in (">", ">=")
        if state.active:
            return (self._release, math.inf) if above else (-math.inf, self._release)
        return (-math.inf, self._threshold) if above else (self._threshold, math.inf)

    def _released(self, value: float) -> bool:
        match self._op:
            case ">" | ">=" | "<" | "<=":
                return not self._compare(value, self._release)
            case "==":
                return abs(value - self._threshold) > abs(self._release - self._threshold)
            case _:
                return True
