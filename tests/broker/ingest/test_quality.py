"""The score of a value, against a reference that knows no shortcuts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.ingest.quality import AHEAD, FAR, Track, Value, Yardstick, by_name
from core.profiles.configuration import MetricRule

SECOND = 1_000_000
NOW = 1_700_000_000 * SECOND


@dataclass
class Reference:
    """The documented rule, written down as plainly as it goes."""

    rules: Sequence[MetricRule | None]
    newest: int = 0
    good: dict[int, tuple[float, int]] = field(default_factory=dict)

    def score(self, at: int, now: int, values: Sequence[Value]) -> list[int]:
        """Return the scores, all of them."""
        known = [rule.interval for rule in self.rules if rule is not None and rule.interval]
        late = max(round(3 * max(known) * SECOND), 60 * SECOND) if known else 3600 * SECOND
        message = 0
        if at == self.newest:
            message += 50
        if at - now > AHEAD or now - at > FAR:
            message += 30
        if now - at > late:
            message += 20
        scores = []
        for i, (rule, value) in enumerate(zip(self.rules, values, strict=True)):
            penalty = message
            if rule is not None and value is not None:
                right_type = rule.type == "number" or (
                    value in (0, 1) if rule.type == "boolean" else value == int(value)
                )
                inside = rule.range is None or rule.range[0] <= value <= rule.range[1]
                penalty += (0 if right_type else 80) + (0 if inside else 60)
                if at > self.newest:
                    if rule.max_rate is not None and i in self.good:
                        before, since = self.good[i]
                        least = round((rule.interval or 1.0) * SECOND)
                        allowed = rule.max_rate / SECOND * max(at - since, least)
                        penalty += 40 if abs(value - before) > allowed else 0
                    if right_type and inside:
                        self.good[i] = (value, at)
            scores.append(max(0, 100 - penalty))
        self.newest = max(self.newest, at)
        return scores


NUMBERS = st.one_of(
    st.integers(-20, 20).map(float),
    st.sampled_from([0.5, 10.0, 19.999, 1e9, -1e17, 1e17, 1e17 + 16, 5e-324]),
    st.floats(-100, 100),
)


@st.composite
def rules(draw: st.DrawFn) -> MetricRule | None:
    if draw(st.integers(0, 5)) == 0:
        return None
    low = draw(st.floats(-50, 40))
    return MetricRule(
        type=draw(st.sampled_from(["number", "number", "integer", "boolean"])),
        range=draw(st.none() | st.just([low, low + draw(st.floats(0.5, 60))])),
        max_rate=draw(st.none() | st.floats(0.01, 50)),
        interval=draw(st.none() | st.floats(0.001, 100)),
    )


STEPS = st.tuples(
    st.one_of(
        st.just(1),  # a microsecond: a bunch of messages
        st.integers(0, 5 * SECOND),
        st.integers(-600 * SECOND, 600 * SECOND),
        st.sampled_from([0, FAR, -FAR, 30 * SECOND]),
    ),
    st.integers(-10 * SECOND, 100 * SECOND) | st.sampled_from([0, AHEAD, AHEAD + 1, -AHEAD]),
)


@settings(max_examples=300)
@given(st.data(), st.lists(rules(), min_size=1, max_size=4))
def test_a_track_scores_as_the_rule_says(
    data: st.DataObject, metrics: list[MetricRule | None]
) -> None:
    track, reference = Track(Yardstick(metrics)), Reference(metrics)
    at = NOW
    value = st.lists(NUMBERS, min_size=len(metrics), max_size=len(metrics))
    for step, age in data.draw(st.lists(STEPS, min_size=1, max_size=12)):
        at += step
        values: list[Value] = [*data.draw(value)]
        nulls = data.draw(st.integers(0, 9))
        expected_from = list(values)
        if nulls < len(values):
            expected_from[nulls] = None
            got = track.judge(at, at + age, tuple(expected_from))
        else:
            quick = track.score_one if len(metrics) == 1 else track.score
            got = quick(at, at + age, tuple(v for v in values if v is not None))
        expected = reference.score(at, at + age, expected_from)
        assert (got or [100] * len(metrics)) == expected
        assert got is None or got != [100] * len(metrics)


@settings(max_examples=300)
@given(
    rate=st.floats(0.1, 100),
    interval=st.none() | st.floats(0.01, 10),
    base=st.sampled_from([0.0, 0.0, 1e6, 1e16, -1e17]),
    tenths=st.lists(st.integers(-16, 16), min_size=2, max_size=20),
    step=st.floats(0.001, 1),
)
@example(rate=20, interval=None, base=-1e17, tenths=[0, 5, -5], step=0.5)
def test_changes_about_as_large_as_allowed_are_told_apart(
    rate: float, interval: float | None, base: float, tenths: list[int], step: float
) -> None:
    rule = MetricRule(max_rate=rate, interval=interval)
    track, reference = Track(Yardstick([rule])), Reference([rule])
    allowed = rate * (interval or 1)
    for number, tenth in enumerate(tenths):
        at = NOW + round(number * step * SECOND * (interval or 1))
        value = base + allowed * tenth / 10
        assert (track.score(at, at, (value,)) or [100]) == reference.score(at, at, [value])


def scores(rule: MetricRule, *messages: tuple[float, float]) -> list[int]:
    """Return the scores of (second, value) pairs, each received at once."""
    track = Track(Yardstick([rule]))
    return [
        (track.score(at, at, (value,)) or [100])[0]
        for at, value in ((NOW + round(second * SECOND), value) for second, value in messages)
    ]


def test_range_and_type() -> None:
    assert scores(MetricRule(range=[0, 10]), (0, 0), (1, 10), (2, 10.1), (3, 5)) == [
        100,
        100,
        40,
        100,
    ]
    assert scores(MetricRule(type="integer"), (0, 3), (1, 3.5)) == [100, 20]
    assert scores(MetricRule(type="boolean"), (0, 1), (1, 0), (2, 2)) == [100, 100, 20]
    assert scores(MetricRule(type="integer", range=[0, 1]), (0, 2.5)) == [0]


def test_a_change_is_measured_over_the_time_between_and_at_least_the_interval() -> None:
    slow = MetricRule(max_rate=2, interval=5)
    assert scores(slow, (0, 0), (0.001, 10), (0.002, 20.5)) == [100, 100, 60]
    assert scores(slow, (0, 0), (20, 40), (40, 81)) == [100, 100, 60]
    assert scores(MetricRule(max_rate=2), (0, 0), (0.5, 2), (0.6, 4.5)) == [100, 100, 60]


def test_a_value_out_of_range_does_not_spoil_the_next_one() -> None:
    assert scores(MetricRule(range=[0, 100], max_rate=1), (0, 20), (1, 5000), (2, 21)) == [
        100,
        0,
        100,
    ]


def test_time_of_the_message_counts_for_all_values() -> None:
    yardstick = Yardstick([MetricRule(interval=40), None])

    def at(age: int, newest: int | None = None) -> list[int] | None:
        track = Track(yardstick)
        if newest is not None:
            track.score(newest, newest, (1.0, 2.0))
        return track.score(NOW, NOW + age, (1.0, 2.0))

    assert at(120 * SECOND) is None
    assert at(120 * SECOND + 1) == [80, 80]
    assert at(FAR + 1) == [50, 50]
    assert at(-AHEAD) is None
    assert at(-AHEAD - 1) == [70, 70]
    assert at(0, newest=NOW) == [50, 50]
    assert at(0, newest=NOW + SECOND) is None  # out of order, which is no fault


def test_a_derived_value_that_failed_is_worth_nothing() -> None:
    track = Track(Yardstick([None, None]))
    assert track.judge(NOW, NOW, (1.0, None), frozenset({1})) == [100, 0]
    assert track.judge(NOW + 1, NOW, (1.0, None)) is None


def test_only_scores_below_100_are_named() -> None:
    assert by_name(["a", "b"], [100, 40]) == {"b": 40}


@pytest.mark.parametrize("count", [1, 20])
def test_good_values_stay_on_the_quick_way(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    track = Track(Yardstick([MetricRule(range=[0, 100], max_rate=100, interval=1)] * count))
    track.score(NOW, NOW, (50.0,) * count)
    monkeypatch.delattr(Track, "judge")
    for second in range(1, 50):
        at = NOW + second * SECOND
        quick = track.score_one if count == 1 else track.score
        assert quick(at, at, (50.0 + second % 40,) * count) is None
