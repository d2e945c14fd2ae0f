"""Whether a document has the form of a definition, told in sentences."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from core.dsl import schema, steps, triggers
from core.dsl.fields import Node
from core.dsl.findings import Report, nearest, pointer

MAX_NESTING: Final = 64
MAX_VALUES: Final = 20_000
MAX_CHARACTERS: Final = 500_000


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


def _field_names(model: type[BaseModel]) -> set[str]:
    return {info.alias or name for name, info in model.model_fields.items()}


_ALL_FIELDS: Final = frozenset().union(*(_field_names(model) for model in _models(Node)))
_TYPES: Final[Mapping[str, type[BaseModel]]] = {
    model.model_fields["type"].annotation.__args__[0]: model  # type: ignore[union-attr]  # a Literal always has arguments
    for model in (*_models(steps.BaseStep), *_models(Node))
    if "type" in model.model_fields
}
STEP_TYPES: Final = frozenset(
    name for name, model in _TYPES.items() if issubclass(model, steps.BaseStep)
)
TRIGGER_TYPES: Final = frozenset(_TYPES) - STEP_TYPES
_SENTENCES: Final = {
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def check_size(document: object, report: Report) -> bool:
    """Tell whether the document is JSON of a size and depth that can be looked into."""
    waiting: list[tuple[object, tuple[str | int, ...]]] = [(document, ())]
    values = characters = 0
    while waiting:
        value, path = waiting.pop()
        values += 1
        if len(path) > MAX_NESTING:
            report.error(pointer(*path[:3]), f"nested deeper than {MAX_NESTING} levels")
            return False
        match value:
            case dict():
                for key, item in value.items():
                    if not isinstance(key, str):
                        report.error(pointer(*path), "keys must be texts")
                        return False
                    characters += len(key)
                    waiting.append((item, (*path, key)))
            case list():
                waiting.extend((item, (*path, index)) for index, item in enumerate(value))
            case str():
                characters += len(value)
            case None | bool() | int() | float():
                pass
            case _:
                report.error(pointer(*path), f"{type(value).__name__} is no JSON value")
                return False
        if values + len(waiting) > MAX_VALUES or characters > MAX_CHARACTERS:
            report.error(
                "",
                f"larger than {MAX_VALUES} values or {MAX_CHARACTERS} characters",
                "split the automation",
            )
            return False
    return True


def check_shape(document: object, report: Report) -> None:
    """Report every unknown, missing or mistyped field."""
    try:
        schema.Definition.model_validate(document)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            _report(error, document, report)


def _place(document: object, location: tuple[int | str, ...]) -> tuple[tuple[str | int, ...], Any]:
    """Return the path into the document; pydantic's own names of union members are left out."""
    path: list[str | int] = []
    value: Any = document
    for part in location:
        match value, part:
            case dict(), str() if part in value:
                value = value[part]
            case list(), int() if part < len(value):
                value = value[part]
            case _:
                continue
        path.append(part)
    return tuple(path), value


def _report(error: ErrorDetails, document: object, report: Report) -> None:
    location = error["loc"]
    path, value = _place(document, location)
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            report.error(pointer(*path), f"`{location[-1]}` is missing")
        case "extra_forbidden":
            known = _known_fields(document, path)
            hint = nearest(path[-1], known) or f"known here: {', '.join(sorted(known))}"
            report.error(pointer(*path), f"`{path[-1]}` is not known here", hint)
        case "union_tag_not_found":
            report.error(pointer(*path), "`type` is missing", _list_types(path))
        case "union_tag_invalid":
            known = TRIGGER_TYPES if "triggers" in path[:1] else STEP_TYPES
            name = str(value.get("type"))[:100] if isinstance(value, dict) else ""
            what = "trigger" if "triggers" in path[:1] else "step"
            report.error(
                pointer(*path, "type"),
                f"there is no {what} of type `{name}`",
                nearest(name, known) or _list_types(path),
            )
        case "literal_error":
            report.error(
                pointer(*path),
                f"must be {context.get('expected')}",
                nearest(value, re.findall("'([^']*)'", str(context.get("expected")))),
            )
        case kind:
            message = error["msg"].replace("Input should", "must").replace("String should", "must")
            report.error(pointer(*path), _SENTENCES.get(kind, message))


def _list_types(path: tuple[str | int, ...]) -> str:
    known = TRIGGER_TYPES if "triggers" in path[:1] else STEP_TYPES
    return f"one of: {', '.join(sorted(known))}"


def _known_fields(document: object, path: tuple[str | int, ...]) -> frozenset[str] | set[str]:
    """Return the fields of the object that holds the unknown one."""
    _, holder = _place(document, path[:-1])
    if len(path) == 1:
        return _field_names(schema.Definition)
    if isinstance(holder, dict) and isinstance(holder.get("type"), str):
        model = _TYPES.get(holder["type"])
        return _field_names(model) if model else _ALL_FIELDS
    _, above = _place(document, path[:-2])
    if path[-2] == "with" and isinstance(above, dict) and isinstance(above.get("type"), str):
        model = _TYPES.get(above["type"])
        parameters = model.model_fields["parameters"].annotation if model else None
        if isinstance(parameters, type) and issubclass(parameters, BaseModel):
            return _field_names(parameters)
    sections: dict[str | int, type[BaseModel]] = {
        "settings": schema.RunSettings,
        "schedule": schema.Schedule,
        "retry": steps.Retry,
        "when": triggers.Comparison,
    }
    section = sections.get(path[-2])
    return _field_names(section) if section else _ALL_FIELDS
