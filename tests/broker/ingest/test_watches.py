"""Triggers that sleep do what triggers do that look at every measurement."""

import copy
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.ingest.watches import Binding, Watch, by_metric
from core.dsl.expressions import ExpressionError
from core.dsl.telemetry_trigger import CompiledTrigger, Step, TriggerState

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
TENANT = uuid4()


def binding(index: int, definition: dict[str, Any], state: TriggerState) -> Binding:
    """Return a trigger on `t` of one automation."""
    trigger = CompiledTrigger.compile({"type": "telemetry", "metric": "t"} | definition)
    return Binding(Watch(TENANT, UUID(int=1), 1, index, b"", b"", trigger), state)


def comparison(op: str, value: int, hold: int, hysteresis: int, cooldown: int) -> dict[str, Any]:
    """Return a trigger's definition; 0 leaves a duration out."""
    definition = {"when": {"op": op, "value": value}, "hysteresis": hysteresis}
    durations = {"for": hold, "cooldown": cooldown}
    return definition | {name: f"PT{length}S" for name, length in durations.items() if length}


comparisons = st.builds(
    comparison,
    st.sampled_from((">", ">=", "<", "<=", "==", "!=")),
    st.integers(97, 103),
    st.integers(0, 4),
    st.integers(0, 3),
    st.integers(0, 6),
)
expressions = st.sampled_from(
    ({"when": {"expr": "value > 101.0"}}, {"when": {"expr": "values.missing > 1.0"}})
)
states = st.builds(
    lambda active, fired, since: TriggerState(
        active=active,
        fired=active and fired,
        since=START + since * SECOND if active else None,
        last_fired=START + since * SECOND if active and fired else None,
    ),
    st.booleans(),
    st.booleans(),
    st.integers(-5, 5),
)


def look(one: Binding, time: int, now: int, value: float) -> Step | None:
    """Return what a measurement did; None is an error."""
    context = {"value": value, "values": {"t": value}, "device": {}, "trigger": {}}
    try:
        return one.watch.trigger.observe(one.state, time, now, value, context)
    except ExpressionError:
        return None


@given(
    triggers=st.lists(st.tuples(comparisons | expressions, states), min_size=1, max_size=6),
    measurements=st.lists(
        st.tuples(st.integers(-2, 4), st.integers(94, 106), st.integers(0, 3)), max_size=40
    ),
)
@example(
    # A repeated measurement outside the interval, after one inside it that nobody looked at.
    triggers=[({"when": {"op": ">", "value": 100}}, TriggerState())],
    measurements=[(1, 99, 0), (0, 101, 0), (-1, 102, 0), (1, 103, 0)],
)
def test_sleeping_changes_nothing(
    triggers: list[tuple[dict[str, Any], TriggerState]],
    measurements: list[tuple[int, int, int]],
) -> None:
    plain = [binding(i, d, copy.copy(state)) for i, (d, state) in enumerate(triggers)]
    grouped = [binding(i, d, copy.copy(state)) for i, (d, state) in enumerate(triggers)]
    (watch,) = by_metric(grouped)
    time = START
    for elapsed, value, late in measurements:
        time += elapsed * SECOND
        now = time + late * SECOND - SECOND
        wanted = [look(one, time, now, float(value)) for one in plain]
        got: list[Step | None] = [Step.NOTHING] * len(grouped)
        for one in watch.due(float(value), time, now):
            got[one.watch.index] = look(one, time, now, float(value))
        if any(step for step in got):
            watch.settle()
        # One that is asleep and would fail cannot be: expressions never sleep.
        assert got == wanted
    watch.wake()
    for one, other in zip(grouped, plain, strict=True):
        for field in ("active", "fired", "since", "last_fired", "judged"):
            assert getattr(one.state, field) == getattr(other.state, field)


@pytest.mark.parametrize(
    ("definition", "inside", "outside"),
    [
        ({"when": {"op": ">", "value": 100}}, 99.9, 100.1),
        ({"when": {"op": "<=", "value": 100}}, 100.1, 99.9),
    ],
)
def test_within_the_interval_nothing_is_looked_at(
    definition: dict[str, Any], inside: float, outside: float
) -> None:
    (watch,) = by_metric([binding(0, definition, TriggerState())])
    assert watch.due(inside, START, START) == ()
    assert len(watch.due(outside, START + 1, START + 1)) == 1
