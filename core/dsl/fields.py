"""The kinds of fields that definitions are made of.

Fields are checked strictly: `"1"` is no number. `Templated` marks those that are not plain text
and may be given as `${…}`.
"""

import json
import re
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from core.dsl.durations import parse_duration

MAX_TEXT: Final = 10_000

RENDERED: Final = {"rendered": True}
"""Validation context for parameters whose `${…}` have been replaced: none may be left."""

_TEMPLATE_SCHEMA: Final = {"type": "string", "pattern": r"\$\{.*\}"}


def is_template(value: object) -> bool:
    """Tell whether a value holds a `${…}`."""
    return isinstance(value, str) and "${" in value


class Templated:
    """Marks a field whose value may also be a `${…}`, until it is rendered."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Let templates pass unless the context says that they are rendered."""

        def check(value: Any, inner: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
            rendered = info.context is not None and info.context.get("rendered", False)
            return value if is_template(value) and not rendered else inner(value)

        return core_schema.with_info_wrap_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Say so in the JSON Schema."""
        return {"anyOf": [handler(schema), dict(_TEMPLATE_SCHEMA)]}


def _check_duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as error:
        raise PydanticCustomError("duration", "{why}", {"why": str(error)}) from error
    return text


def _check_identity(text: str) -> str:
    kind, _, name = text.partition(":")
    if kind not in ("role", "user") or not name:
        raise PydanticCustomError(
            "identity", "must be `role:` and a role's name or `user:` and an e-mail address", {}
        )
    return text


def _check_uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise PydanticCustomError("uuid", "must be a UUID", {}) from error


# Words of CEL, which cannot be selected as `steps.<id>`.
_WORDS: Final = (
    "as break const continue else false for function if import in let loop namespace null package"
    " return true var void while"
)
RESERVED_IDS: Final = frozenset(re.findall(r"\w+", _WORDS))


def _check_id(text: str) -> str:
    if text in RESERVED_IDS:
        raise PydanticCustomError("reserved", "`{id}` is a word of the expressions", {"id": text})
    return text


def _write_out(value: Any, info: ValidationInfo) -> Any:
    """Make text of a number or list that a `${…}` gave where text is wanted."""
    if info.context is None or not info.context.get("rendered", False):
        return value
    return value if value is None or isinstance(value, str) else json.dumps(value)


Written = BeforeValidator(_write_out)
"""Marks a text field: `"${trigger.value}"` is the number as text there, not a mistake."""

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT), Written]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255), Written]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
"""A CEL expression without `${}`."""
Identifier = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=50),
    AfterValidator(_check_id),
]
Duration = Annotated[Text, AfterValidator(_check_duration)]
"""ISO 8601, such as `PT5M`."""
DeviceId = Annotated[Annotated[Text, AfterValidator(_check_uuid)], Templated()]
Identity = Annotated[Annotated[Text, AfterValidator(_check_identity)], Templated()]


class Node(BaseModel):
    """Base of everything in a definition."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
