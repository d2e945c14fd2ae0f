"""Conversions of units are right, and undo each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.profiles.units import UNITS, conversion

FINITE = st.floats(-1e9, 1e9)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (212.0, "degF", "degC", 100.0),
        (-40.0, "degF", "degC", -40.0),
        (0.0, "degC", "K", 273.15),
        (491.67, "degR", "degC", 0.0),
        (1.0, "atm", "psi", 14.695948775513),
        (1.0, "bar", "kPa", 100.0),
        (1.0, "mi", "km", 1.609344),
        (16.0, "oz", "lb", 1.0),
        (36.0, "km/h", "m/s", 10.0),
        (3000.0, "rpm", "Hz", 50.0),
        (180.0, "deg", "rad", 3.141592653589793),
        (1.0, "kWh", "MJ", 3.6),
        (1.0, "hp", "W", 745.6998715822702),
        (1.0, "gal", "L", 3.785411784),
        (60.0, "gpm", "L/min", 227.12470704),
        (45.0, "%", "1", 0.45),
    ],
)
def test_known_conversions(value: float, source: str, target: str, expected: float) -> None:
    factor, offset = conversion(source, target)
    assert factor * value + offset == pytest.approx(expected, rel=1e-12, abs=1e-9)


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), FINITE)
def test_there_and_back_is_the_same(source: str, target: str, value: float) -> None:
    try:
        there, back = conversion(source, target), conversion(target, source)
    except ValueError:
        with pytest.raises(ValueError):
            conversion(target, source)
        return
    converted = there[0] * value + there[1]
    assert back[0] * converted + back[1] == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("source", "target"), [("degC", "m"), ("smoot", "m"), ("m", "smoot")])
def test_what_does_not_measure_the_same_is_refused(source: str, target: str) -> None:
    with pytest.raises(ValueError, match=r"smoot|do not measure the same"):
        conversion(source, target)
