"""The state machine of telemetry triggers."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dsl.expressions import ExpressionError
from core.dsl.telemetry_trigger import CompiledTrigger, Step, TriggerState
from core.errors import InvalidInputError

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def compiled(**fields: Any) -> CompiledTrigger:
    """Return a trigger on `t`, above 100 unless told otherwise."""
    return CompiledTrigger.compile(
        {"type": "telemetry", "metric": "t", "when": {"op": ">", "value": 100}} | fields
    )


def steps(
    trigger: CompiledTrigger, *measurements: tuple[float, float], state: TriggerState | None = None
) -> list[Step]:
    """Return what each (second, value) did."""
    state = state or TriggerState()
    return [
        trigger.observe(state, START + int(s * SECOND), START + 10**6 * SECOND, v)
        for s, v in measurements
    ]


FIRED, CHANGED, NOTHING = Step.FIRED, Step.CHANGED, Step.NOTHING


def test_it_fires_once_an_activation() -> None:
    got = steps(compiled(), (0, 50), (1, 101), (2, 150), (3, 99), (4, 101))
    assert got == [NOTHING, FIRED, NOTHING, CHANGED, FIRED]


@pytest.mark.parametrize(
    ("op", "met", "unmet"),
    [
        (">", 101, 100), (">=", 100, 99), ("<", 99, 100),
        ("<=", 100, 101), ("==", 100, 99), ("!=", 99, 100),
    ],
)  # fmt: skip
def test_every_comparison(op: str, met: float, unmet: float) -> None:
    trigger = compiled(when={"op": op, "value": 100})
    assert steps(trigger, (0, unmet), (1, met)) == [NOTHING, FIRED]


def test_hysteresis_keeps_it_active_until_the_value_has_left_the_band() -> None:
    above = steps(compiled(hysteresis=5), (0, 101), (1, 96), (2, 101), (3, 95), (4, 101))
    assert above == [FIRED, NOTHING, NOTHING, CHANGED, FIRED]
    below = compiled(when={"op": "<", "value": 10}, hysteresis=2)
    assert steps(below, (0, 9), (1, 11), (2, 9), (3, 12), (4, 9)) == [
        FIRED, NOTHING, NOTHING, CHANGED, FIRED,
    ]  # fmt: skip


def test_for_wants_the_condition_to_have_held_so_long() -> None:
    trigger = compiled(**{"for": "PT10S"})
    got = steps(trigger, (0, 101), (9, 101), (10, 101), (11, 101), (12, 99), (13, 101), (22, 101))
    assert got == [CHANGED, NOTHING, FIRED, NOTHING, CHANGED, CHANGED, NOTHING]


def test_the_cooldown_holds_a_firing_back_until_it_is_over() -> None:
    trigger = compiled(cooldown="PT1M")
    got = steps(trigger, (0, 101), (1, 99), (2, 101), (59, 101), (60, 101), (61, 101))
    assert got == [FIRED, CHANGED, CHANGED, NOTHING, FIRED, NOTHING]


def test_a_measurement_that_comes_twice_or_late_moves_nothing() -> None:
    trigger = compiled()
    assert steps(trigger, (5, 101), (5, 99), (4, 99), (6, 101)) == [
        FIRED, NOTHING, NOTHING, NOTHING,
    ]  # fmt: skip


def test_a_clock_that_is_ahead_does_not_block_it() -> None:
    trigger, state = compiled(**{"for": "PT10S"}), TriggerState()
    day = 86_400 * SECOND
    assert trigger.observe(state, START + day, START, 101) is CHANGED
    assert trigger.observe(state, START + 10 * SECOND, START + 10 * SECOND, 101) is FIRED


def test_it_never_fires_twice_in_a_millisecond() -> None:
    got = steps(compiled(), (0, 101), (0.0001, 99), (0.0002, 101), (0.001, 101))
    assert got == [FIRED, CHANGED, CHANGED, FIRED]


def test_what_it_remembers_survives_being_stored() -> None:
    trigger = compiled(**{"for": "PT10S", "cooldown": "PT1M"})
    state = TriggerState()
    steps(trigger, (0, 101), state=state)
    again = TriggerState(
        active=state.active, fired=state.fired, since=state.since, last_fired=state.last_fired
    )
    assert steps(trigger, (0, 101), (10, 101), state=again) == [NOTHING, FIRED]


def test_an_expression_sees_its_context() -> None:
    trigger = compiled(when={"expr": "value > 100 && device.metadata.site == 'plant-1'"})
    state = TriggerState()
    for site, step in (("plant-2", NOTHING), ("plant-1", FIRED)):
        state.judged = 0
        context = {"value": 101.0, "device": {"metadata": {"site": site}}}
        assert trigger.observe(state, START, START, 101, context) is step


@pytest.mark.parametrize("text", ["device.metadata.nope > 1", "value", "'x' > 1"])
def test_an_expression_that_fails_is_neither_true_nor_false(text: str) -> None:
    trigger = compiled(when={"expr": text})
    for active in (True, False):
        state = TriggerState(active=active, since=START if active else None)
        context = {"value": 101.0, "device": {"metadata": {}}}
        with pytest.raises(ExpressionError):
            trigger.observe(state, START + 1, START + 1, 101, context)
        assert state.active is active


@pytest.mark.parametrize(
    "fields",
    [
        {"when": {"op": "~", "value": 1}},
        {"when": {"op": ">", "value": "1"}},
        {"when": {"op": ">"}},
        {"when": {"expr": "value >"}},
        {"when": None},
        {"for": "2 minutes"},
        {"for": "P1M"},
        {"hysteresis": -1},
        {"cooldown": -5},
        {"device_id": "no"},
        {"metric": ""},
    ],
)
def test_a_malformed_trigger_says_where(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        compiled(**fields)
    assert caught.value.errors


def test_it_watches_the_devices_it_names() -> None:
    mine, other = uuid4(), uuid4()
    assert compiled().applies_to(mine, "engine")
    assert compiled(device_type="engine").applies_to(mine, "engine")
    assert not compiled(device_type="engine").applies_to(mine, "pump")
    assert compiled(device_id=str(mine)).applies_to(mine, "engine")
    assert not compiled(device_id=str(mine)).applies_to(other, "engine")


@dataclass
class Model:
    """The state machine once more, as plainly as it can be said: over the whole history."""

    hold: float
    hysteresis: float
    cooldown: float

    def fires(self, history: list[tuple[float, float]]) -> list[bool]:
        """Tell for each (second, value), in order of time, whether it fires."""
        fired_at: list[float] = []
        since: float | None = None
        done = False
        answers: list[bool] = []
        for second, value in history:
            if since is None and value > 100:
                since, done = second, False
            if since is not None and value <= 100 - self.hysteresis:
                since = None
            rested = not fired_at or second - fired_at[-1] >= self.cooldown
            held = since is not None and second - since >= self.hold
            fire = held and rested and not done and value > 100
            if fire:
                fired_at.append(second)
                done = True
            answers.append(fire)
        return answers


@given(
    hold=st.integers(0, 5),
    hysteresis=st.integers(0, 4),
    cooldown=st.integers(0, 8),
    values=st.lists(st.tuples(st.integers(1, 4), st.integers(94, 106)), max_size=40),
    restarts=st.sets(st.integers(0, 40)),
    repeats=st.sets(st.integers(0, 40)),
)
def test_it_agrees_with_the_model_through_restarts_and_repeated_deliveries(
    hold: int,
    hysteresis: int,
    cooldown: int,
    values: list[tuple[int, int]],
    restarts: set[int],
    repeats: set[int],
) -> None:
    fields: dict[str, Any] = {"hysteresis": hysteresis}
    if hold:
        fields["for"] = f"PT{hold}S"
    if cooldown:
        fields["cooldown"] = f"PT{cooldown}S"
    trigger, state = compiled(**fields), TriggerState()
    history: list[tuple[float, float]] = []
    second, got = 0, []
    stored = TriggerState()
    for number, (gap, value) in enumerate(values):
        second += gap
        history.append((second, value))
        time = START + second * SECOND
        step = trigger.observe(state, time, time, value)
        if step is not NOTHING:  # what the broker stores
            stored = TriggerState(
                active=state.active,
                fired=state.fired,
                since=state.since,
                last_fired=state.last_fired,
            )
        got.append(step is FIRED)
        if number in repeats:
            assert trigger.observe(state, time, time, 1000 - value) is NOTHING
        if number in restarts:
            state = TriggerState(
                active=stored.active,
                fired=stored.fired,
                since=stored.since,
                last_fired=stored.last_fired,
            )
    assert got == Model(hold, hysteresis, cooldown).fires(history)
