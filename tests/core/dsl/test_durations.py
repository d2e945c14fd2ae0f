"""ISO 8601 durations."""

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dsl.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT90S", 90),
        ("PT1.5S", 1.5),
        ("PT0,5S", 0.5),
        ("P1DT12H", 129_600),
        ("P2W", 1_209_600),
        ("PT1H30M", 5400),
    ],
)
def test_iso_durations_have_their_length(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("P1M", "calendar|fixed length"),
        ("P1Y", "fixed length"),
        ("PT0S", "longer than zero"),
        ("P3651D", "ten years"),
        ("P", "ISO 8601"),
        ("PT", "ISO 8601"),
        ("P1DT", "ISO 8601"),
        ("-PT1S", "ISO 8601"),
        ("5 minutes", "ISO 8601"),
        ("P1W2D", "ISO 8601"),
    ],
)
def test_other_durations_are_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_duration(text) > timedelta(0)
