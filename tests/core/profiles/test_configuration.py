"""The form of a profile's metrics and derived metrics."""

from typing import Any

import pytest
from pydantic import ValidationError

from core.dsl.expressions import ExpressionError
from core.profiles.configuration import Derived, ProfileConfiguration

WHOLE: dict[str, Any] = {
    "desired": {"interval": 5},
    "metrics": {
        "t": {
            "unit": "degC",
            "type": "number",
            "range": [-40, 120.5],
            "max_rate": 2,
            "interval": 10,
            "convert": {"from": "degF"},
        },
        "raw": {"convert": {"factor": 0.1, "offset": -5}},
        "on": {"type": "boolean"},
    },
    "derived": {"power": "values.u * values.i"},
    "prediction": {"cycle_hours": 2.0},
}


def test_a_configuration_is_kept_as_it_was_given() -> None:
    assert ProfileConfiguration.model_validate(WHOLE).document() == WHOLE
    assert ProfileConfiguration.model_validate({}).document() == {}


@pytest.mark.parametrize(
    ("metric", "place", "message"),
    [
        ({"range": [3, 1]}, ("range",), "below the greatest"),
        ({"range": [1]}, ("range",), "at least 2"),
        ({"range": [0, "9"]}, ("range", 1), "must be a number"),
        ({"max_rate": 0}, ("max_rate",), "greater than 0"),
        ({"max_rate": True}, ("max_rate",), "must be a number"),
        ({"max_rate": float("inf")}, ("max_rate",), "finite"),
        ({"interval": 0}, ("interval",), "greater than"),
        ({"type": "text"}, ("type",), "'number', 'integer' or 'boolean'"),
        ({"unit": "m", "convert": {"from": "degF"}}, ("convert",), "do not measure the same"),
        ({"convert": {"from": "degF"}}, ("convert",), "needs a `unit`"),
        ({"unit": "m", "convert": {"from": "smoot"}}, ("convert", "from"), "not known"),
        ({"convert": {}}, ("convert",), "either `from`"),
        ({"convert": {"from": "m", "factor": 1}, "unit": "m"}, ("convert",), "either `from`"),
        ({"convert": {"factor": 0}}, ("convert", "factor"), "every value the same"),
        ({"colour": "red"}, ("colour",), "not permitted"),
    ],
)
def test_a_fault_of_a_metric_has_a_place(
    metric: dict[str, Any], place: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(ValidationError) as raised:
        ProfileConfiguration.model_validate({"metrics": {"t": metric}})
    (fault,) = raised.value.errors()
    assert fault["loc"] == ("metrics", "t", *place)
    assert message in fault["msg"]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("values.u * ", "at character 12"),
        ("u * 2", "there is no variable `u`"),
        ("", "at least 1 character"),
        ("values.u" + " + 1" * 600, "longer than"),
    ],
)
def test_an_expression_that_cannot_be_computed_is_refused(expression: str, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        ProfileConfiguration.model_validate({"derived": {"p": expression}})
    (fault,) = raised.value.errors()
    assert fault["loc"] == ("derived", "p")
    assert message in fault["msg"]


@pytest.mark.parametrize("name", ["", "ts", "n" * 101])
def test_a_name_that_no_message_can_have_is_refused(name: str) -> None:
    for document in ({"metrics": {name: {}}}, {"derived": {name: "1"}}):
        with pytest.raises(ValidationError, match="metric"):
            ProfileConfiguration.model_validate(document)


def test_factor_and_offset_of_a_conversion() -> None:
    metrics = ProfileConfiguration.model_validate(WHOLE).metrics
    assert metrics["t"].conversion == pytest.approx((5 / 9, -160 / 9))
    assert metrics["raw"].conversion == (0.1, -5.0)
    assert metrics["on"].conversion is None
    same = {"metrics": {"t": {"unit": "m", "convert": {"from": "m"}}}}
    assert ProfileConfiguration.model_validate(same).metrics["t"].conversion is None


def test_a_derived_metric_knows_what_it_needs() -> None:
    metric = Derived("p", "values.u * values['i'] * (device.metadata.phases == 3 ? 2 : 1)")
    assert metric.needs == {"u", "i"}
    context = {"values": {"u": 2.0, "i": 3}, "device": {"metadata": {"phases": 3}}}
    assert metric.compute(context) == 12.0


@pytest.mark.parametrize("text", ["'text'", "values.u / 0.0", "values.nothing", "1e308 * 1e308"])
def test_what_is_no_finite_number_is_a_failure(text: str) -> None:
    with pytest.raises(ExpressionError):
        Derived("p", text).compute({"values": {"u": 1.0}, "device": {}})


def test_true_and_false_are_1_and_0() -> None:
    assert Derived("hot", "values.u > 1").compute({"values": {"u": 2.0}, "device": {}}) == 1.0
