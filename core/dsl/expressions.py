"""Expressions: CEL, compiled once.

CEL keeps whole numbers and doubles apart and JSON does not. So every number from data is a double,
and where an operation fails for its types, the whole numbers written in the expression are read as
doubles too: `value + 1` and `steps.predict.hours / 2` do what they say.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import cel

from core.dsl.tokens import (
    Reference,
    bound_names,
    macro_depth,
    references,
    template_end,
    with_doubles,
)
from core.errors import IoTLinkerError

MAX_EXPRESSION: Final = 2000
"""Characters."""
MAX_LOOPS: Final = 2
"""Macros such as `map` within each other; each level multiplies the cost."""
_MAX_NESTING: Final = 100

_SYNTAX: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


class ExpressionError(IoTLinkerError):
    """An expression cannot be compiled, fails, or gives what is not wanted.

    Attributes:
        expression: Its text.
        position: Characters from its start, where that is known.
        value: What it gave, when that is the fault.
    """

    code, status, title = "invalid_expression", 422, "Invalid expression"

    def __init__(
        self, expression: str, why: str, position: int | None = None, value: object = None
    ) -> None:
        where = "" if position is None else f" at character {position + 1}"
        super().__init__(f"`{_short(expression)}`{where}: {why}")
        self.expression = expression
        self.why = why
        self.position = position
        self.value = value


class Expression:
    """A compiled CEL expression."""

    __slots__ = ("_doubles", "_program", "references", "source", "variables")

    def __init__(self, source: str) -> None:
        if len(source) > MAX_EXPRESSION:
            raise ExpressionError(source, f"is longer than {MAX_EXPRESSION} characters")
        if macro_depth(source) > MAX_LOOPS:
            raise ExpressionError(source, f"nests more than {MAX_LOOPS} loops such as `map`")
        self.source = source
        self._program = _compile(source)
        self._doubles: cel.Program | None = None
        self.variables = frozenset(self._program.variables()) - bound_names(source)
        self.references: tuple[Reference, ...] = references(source)

    def evaluate(self, context: Mapping[str, Any]) -> Any:
        """Return the value in a context.

        Raises:
            ExpressionError: It fails: a missing field, the wrong types, a division by zero.
        """
        names = {
            name: _from_data(context[name], self.source)
            for name in self.variables
            if name in context
        }
        try:
            return self._program.execute(names)
        except TypeError as error:
            return self._evaluate_as_doubles(names, error)
        except (ValueError, LookupError, ArithmeticError, RuntimeError) as error:
            raise self._explain(error) from error

    def condition(self, context: Mapping[str, Any]) -> bool:
        """Return whether it holds.

        Raises:
            ExpressionError: It fails, or gives something else than true or false.
        """
        value = self.evaluate(context)
        if not isinstance(value, bool):
            raise ExpressionError(
                self.source, f"gives {_short(repr(value))}, not true or false", value=value
            )
        return value

    def _evaluate_as_doubles(self, names: dict[str, Any], first: TypeError) -> Any:
        if self._doubles is None:
            self._doubles = _compile(with_doubles(self.source))
        try:
            return self._doubles.execute(names)
        except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError):
            # What people wrote is what the message must speak of.
            raise self._explain(first) from first

    def _explain(self, error: Exception) -> ExpressionError:
        match error:
            case KeyError():
                why = f"there is no field `{error.args[0]}`"
            case ZeroDivisionError():
                why = "divides by zero"
            case TypeError():
                why = str(error).split(". ", 1)[0].split(": the operation", 1)[0]
                why += "; convert with double(…), int(…) or string(…)"
            case RuntimeError() if "Undefined variable" in str(error):
                why = str(error).split(". ", 1)[0]
            case _:
                why = str(error)
        return ExpressionError(self.source, why)


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}…"


def _compile(source: str) -> cel.Program:
    try:
        return cel.compile(source)
    except ValueError as error:
        match = _SYNTAX.search(str(error))
        if match is None:
            raise ExpressionError(source, "cannot be parsed") from error
        lines = source.split("\n")
        line = int(match[1])
        position = sum(len(text) + 1 for text in lines[: line - 1]) + int(match[2]) - 1
        why = match[3].split(" expecting ", 1)[0].replace("<EOF>", "end of the expression")
        raise ExpressionError(source, why, position) from error


def _from_data(value: Any, expression: str, depth: int = 0) -> Any:
    """Return data as CEL shall see it: every number a double."""
    if depth > _MAX_NESTING:
        raise ExpressionError(expression, f"its data is nested over {_MAX_NESTING} levels")
    match value:
        case bool() | str() | float() | None | datetime():
            return value
        case int():
            try:
                return float(value)
            except OverflowError as error:
                raise ExpressionError(expression, "a number is too large", value=value) from error
        case dict():
            return {
                str(key): _from_data(item, expression, depth + 1) for key, item in value.items()
            }
        case list() | tuple():
            return [_from_data(item, expression, depth + 1) for item in value]
        case _:
            return str(value)  # UUIDs, enums


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Return the compiled expression; the latest thousands are kept.

    Raises:
        ExpressionError: It is no CEL, is too long, or loops within loops within loops.
    """
    return Expression(text)


Part = str | Expression


@lru_cache(maxsize=4096)
def parse_template(text: str) -> tuple[Part, ...]:
    """Return the literal texts and expressions of a string with `${…}`; `$${` stands for `${`.

    Raises:
        ExpressionError: An expression is bad or not closed; the position is in `text`.
    """
    parts: list[Part] = []
    literal = ""
    position = 0
    while (start := text.find("${", position)) >= 0:
        if start > position and text[start - 1] == "$":
            literal += text[position : start - 1] + "${"
            position = start + 2
            continue
        end = template_end(text, start + 2)
        if end < 0:
            raise ExpressionError(text, "`${` is not closed by `}`", start)
        literal += text[position:start]
        if literal:
            parts.append(literal)
            literal = ""
        try:
            parts.append(compile_expression(text[start + 2 : end]))
        except ExpressionError as error:
            offset = None if error.position is None else start + 2 + error.position
            raise ExpressionError(text, error.why, offset) from error
        position = end + 1
    literal += text[position:]
    if literal:
        parts.append(literal)
    return tuple(parts)


def render_template(value: Any, context: Mapping[str, Any]) -> Any:
    """Return JSON with every `${…}` replaced.

    A string that is one `${…}` takes the type of its value; within other text the value becomes
    text, JSON for lists and maps. Instants become ISO 8601, in UTC.

    Raises:
        ExpressionError: An expression fails, or its value has no JSON form.
    """
    match value:
        case str() if "${" in value:
            parts = parse_template(value)
            if len(parts) == 1 and isinstance(parts[0], Expression):
                return _to_data(parts[0].evaluate(context), parts[0].source)
            return "".join(
                part if isinstance(part, str) else _to_text(part.evaluate(context), part.source)
                for part in parts
            )
        case dict():
            return {key: render_template(item, context) for key, item in value.items()}
        case list():
            return [render_template(item, context) for item in value]
        case _:
            return value


def _to_data(value: Any, expression: str) -> Any:
    match value:
        case bool() | str() | int() | None:
            return value
        case float():
            if not math.isfinite(value):
                raise ExpressionError(expression, "gives no finite number", value=value)
            # JSON has one kind of number; 200 must not reach a server as 200.0.
            return int(value) if value.is_integer() and abs(value) < 2**53 else value
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            if value <= timedelta(0):
                raise ExpressionError(expression, "gives no positive duration", value=value)
            return f"PT{value.total_seconds():.6f}S"
        case dict():
            # CEL's maps have no order; what a run computes must not depend on chance.
            items = sorted(value.items(), key=lambda item: str(item[0]))
            return {str(key): _to_data(item, expression) for key, item in items}
        case list():
            return [_to_data(item, expression) for item in value]
        case _:
            kind = type(value).__name__
            raise ExpressionError(expression, f"gives a {kind}, which has no JSON form")


def _to_text(value: Any, expression: str) -> str:
    match _to_data(value, expression):
        case str() as text:
            return text
        case other:
            return json.dumps(other, ensure_ascii=False)
