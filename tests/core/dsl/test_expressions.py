"""Expressions and templates: values, errors, positions."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dsl.expressions import ExpressionError, compile_expression, render_template

CONTEXT: dict[str, Any] = {
    "value": 2.5,
    "trigger": {"device_id": "d", "time": datetime(2026, 1, 2, tzinfo=UTC), "input": {"n": 7}},
    "steps": {"a": {"n": 7, "list": [1, 2, 3], "text": "x"}},
    "vars": {},
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("value + 1", 3.5),
        ("value * -1", -2.5),
        ("steps.a.n / 2", 3.5),
        ("trigger.input.n == 7", True),
        ("size(steps.a.list) + 1", 4),
        ("steps.a.list[1]", 2),
        ("int(steps.a.n) % 2", 1),
        ("steps.a.list.map(x, x + 1)", [2, 3, 4]),
        ("value > 2 ? value + 1 : 0", 3.5),
        ("trigger.time < timestamp('2026-01-03T00:00:00Z')", True),
        ("has(steps.a.missing)", False),
    ],
)
def test_numbers_of_data_and_of_expressions_work_together(source: str, value: object) -> None:
    assert compile_expression(source).evaluate(CONTEXT) == value


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("steps.a.missing > 1", "there is no field `missing`"),
        ("value % 2 > 1", r"double\("),
        ("1 / 0", "divides by zero"),
        ("value > 'x'", "No such overload"),
        ("nothing > 1", "Undefined variable"),
        ("int(steps.a.text)", "invalid digit"),
    ],
)
def test_a_failing_expression_says_why(source: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why) as caught:
        compile_expression(source).condition(CONTEXT)
    assert caught.value.expression == source


@pytest.mark.parametrize("source", ["value", "steps.a.text", "steps.a", "null", "1"])
def test_a_condition_that_is_no_boolean_is_an_error_with_its_value(source: str) -> None:
    with pytest.raises(ExpressionError, match="not true or false"):
        compile_expression(source).condition(CONTEXT)


@pytest.mark.parametrize(
    ("source", "position"), [("1 +", 3), ("a && && b", 5), ("1\n+\n)", 4), ("'open", 0)]
)
def test_a_syntax_error_has_its_position(source: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(source)
    assert caught.value.position == position


def test_loops_within_loops_within_loops_are_refused() -> None:
    inner = "steps.a.list"
    for name in "xyz":
        inner = f"steps.a.list.map({name}, {inner})"
    with pytest.raises(ExpressionError, match="loops"):
        compile_expression(inner)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${value}", 2.5),
        ("${steps.a.n}", 7),
        ("${steps.a.list}", [1, 2, 3]),
        ("${value > 1}", True),
        ("${null}", None),
        ("n=${steps.a.n}, v=${value}", "n=7, v=2.5"),
        ("${trigger.time}", "2026-01-02T00:00:00Z"),
        ("at ${trigger.time}", "at 2026-01-02T00:00:00Z"),
        ("${ {'a': '}'}.a }", "}"),
        ("$${value}", "${value}"),
        ("a $${b} ${value}", "a ${b} 2.5"),
        ("${steps.a.list} items", "[1, 2, 3] items"),
        ("${duration('90s')}", "PT90.000000S"),
        ("no template", "no template"),
    ],
)
def test_templates_keep_types_alone_and_become_text_within_text(
    template: str, value: object
) -> None:
    rendered = render_template({"deep": [template]}, CONTEXT)["deep"][0]
    assert rendered == value
    assert type(rendered) is type(value)


def test_maps_are_rendered_in_one_order() -> None:
    data = {"steps": {"a": {str(number): number for number in range(20)}}}
    assert len({render_template("x${steps.a}", data) for _ in range(20)}) == 1


@pytest.mark.parametrize(
    ("template", "position"), [("abc ${1 + ", 4), ("abc ${1 + }", 10), ("${'}", 2)]
)
def test_a_bad_template_has_its_position(template: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        render_template(template, CONTEXT)
    assert caught.value.position == position


@pytest.mark.parametrize("template", ["${1.0 / 0.0}", "${b'x'}", "${duration('-1s')}"])
def test_a_value_without_json_form_is_an_error(template: str) -> None:
    with pytest.raises(ExpressionError):
        render_template(template, CONTEXT)


WORDS = """
value steps.a.n steps trigger vars 1 2.5 'a' true null + - * / % && || ! ( ) [ ] { } . , ? : == <
in size .map( .filter( x, has( int( string( timestamp( 9223372036854775807 1e308 ${
"""
FRAGMENTS = st.sampled_from(WORDS.split())


@given(st.lists(FRAGMENTS, max_size=12).map(" ".join))
def test_any_expression_gives_a_value_or_an_expression_error(source: str) -> None:
    with suppress(ExpressionError):
        compile_expression(source).evaluate(CONTEXT)


@given(st.text(max_size=50) | st.lists(FRAGMENTS, max_size=12).map(" ".join))
def test_any_template_renders_or_is_an_expression_error(text: str) -> None:
    with suppress(ExpressionError):
        render_template(f"a ${{{text}}} b", CONTEXT)
