"""What a definition means: ids, expressions, references, and what is probably not meant.

Walks the document itself, not the parsed models, so that all is said at once even where the form
is wrong too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from core.dsl.expressions import Expression, ExpressionError, compile_expression, parse_template
from core.dsl.findings import Report, nearest, pointer
from core.dsl.schema import MAX_DEPTH, MAX_STEPS, RunSettings

RUN_VARIABLES: Final = frozenset({"trigger", "device", "steps", "vars", "now"})
TRIGGER_VARIABLES: Final = frozenset({"trigger", "device", "quality", "value", "values"})
# Types, as in `type(x) == double`, and namespaces, are identifiers for CEL too.
_BUILT_IN: Final = frozenset(
    ("bool", "bytes", "double", "duration", "dyn", "int", "list", "map", "null_type", "string")
) | {"timestamp", "type", "uint"}
_BRANCHES: Final = ("then", "else")
_BY_DEVICE: Final = ("predict", "device_command")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A step: where it stands in the document and in the order of running."""

    path: Path
    order: int
    branch: tuple[tuple[int, str], ...]
    disabled: bool


@dataclass(slots=True)
class _Walk:
    report: Report
    steps: dict[str, _Seen] = field(default_factory=dict)
    variables: set[str] = field(default_factory=set)
    count: int = 0


Step = tuple[Path, dict[str, Any], tuple[tuple[int, str], ...], int]


def check_meaning(document: Mapping[str, Any], report: Report) -> None:
    """Report what the form alone does not show."""
    walk = _Walk(report)
    found = list(_steps(document.get("actions"), ("actions",), (), walk))
    for path, step, branch, order in found:
        _register(walk, path, step, branch, order)
    _check_triggers(document, report)
    _check_conditions(document, walk)
    for path, step, branch, order in found:
        _check_step(walk, path, step, branch, order)
    _check_settings(document, report)
    _doubt(document, found, report)


def _steps(
    actions: object, path: Path, branch: tuple[tuple[int, str], ...], walk: _Walk
) -> Iterator[Step]:
    """Yield the steps in the order of running, blocks before what they hold."""
    if not isinstance(actions, list):
        return
    for index, step in enumerate(actions):
        if not isinstance(step, dict):
            continue
        walk.count += 1
        order = walk.count
        if order == MAX_STEPS + 1:
            walk.report.error("/actions", f"more than {MAX_STEPS} steps", "split the automation")
        place = (*path, index)
        yield place, step, branch, order
        for name in _BRANCHES:
            if step.get("type") == "if" and name in step:
                if len(branch) >= MAX_DEPTH - 1:
                    walk.report.error(
                        pointer(*place, name), f"blocks are nested deeper than {MAX_DEPTH} levels"
                    )
                    continue
                yield from _steps(step[name], (*place, name), (*branch, (order, name)), walk)


def _register(
    walk: _Walk, path: Path, step: dict[str, Any], branch: tuple[tuple[int, str], ...], order: int
) -> None:
    identifier = step.get("id")
    if isinstance(identifier, str):
        if identifier in walk.steps:
            first = pointer(*walk.steps[identifier].path)
            walk.report.error(
                pointer(*path, "id"), f"the id `{identifier}` is taken by {first}", "rename one"
            )
        else:
            disabled = step.get("disabled") is True
            walk.steps[identifier] = _Seen(path, order, branch, disabled)
    given = step.get("with")
    if step.get("type") == "set" and isinstance(given, dict):
        names = given.get("vars")
        if isinstance(names, dict):
            walk.variables.update(names)


def _check_triggers(document: Mapping[str, Any], report: Report) -> None:
    triggers = document.get("triggers")
    for index, trigger in enumerate(triggers if isinstance(triggers, list) else ()):
        rule = trigger.get("when") if isinstance(trigger, dict) else None
        if isinstance(rule, dict) and isinstance(rule.get("expr"), str):
            place = ("triggers", index, "when", "expr")
            expression = _compile(rule["expr"], place, report)
            if expression is not None:
                _check_variables(expression, place, TRIGGER_VARIABLES, report)


def _check_conditions(document: Mapping[str, Any], walk: _Walk) -> None:
    conditions = document.get("conditions")
    for index, rule in enumerate(conditions if isinstance(conditions, list) else ()):
        if isinstance(rule, dict) and isinstance(rule.get("expr"), str):
            _check_expression(walk, rule["expr"], ("conditions", index, "expr"), (), 0)


def _check_step(
    walk: _Walk, path: Path, step: dict[str, Any], branch: tuple[tuple[int, str], ...], order: int
) -> None:
    if step.get("type") == "if" and isinstance(step.get("condition"), str):
        if "${" in step["condition"]:
            walk.report.error(
                pointer(*path, "condition"),
                "a condition is an expression by itself",
                "leave out `${` and `}`",
            )
        else:
            _check_expression(walk, step["condition"], (*path, "condition"), branch, order)
    for place, text in _texts(step.get("with"), (*path, "with")):
        if "${" not in text:
            continue
        try:
            parts = parse_template(text)
        except ExpressionError as error:
            walk.report.error(pointer(*place), _sentence(error))
            continue
        for part in parts:
            if isinstance(part, Expression):
                _check_use(walk, part, place, branch, order)


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    match value:
        case str():
            yield path, value
        case dict():
            for key, item in value.items():
                yield from _texts(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from _texts(item, (*path, index))
        case _:
            return


def _sentence(error: ExpressionError) -> str:
    where = "" if error.position is None else f" at character {error.position + 1}"
    return f"bad expression{where}: {error.why}"


def _compile(source: str, place: Path, report: Report) -> Expression | None:
    try:
        return compile_expression(source)
    except ExpressionError as error:
        report.error(pointer(*place), _sentence(error))
        return None


def _check_expression(
    walk: _Walk, source: str, place: Path, branch: tuple[tuple[int, str], ...], order: int
) -> None:
    expression = _compile(source, place, walk.report)
    if expression is not None:
        _check_use(walk, expression, place, branch, order)


def _check_variables(
    expression: Expression, place: Path, known: frozenset[str], report: Report
) -> None:
    for name in sorted(expression.variables - known - _BUILT_IN):
        report.error(
            pointer(*place),
            f"there is no variable `{name}`",
            nearest(name, known) or f"known here: {', '.join(sorted(known))}",
        )


def _check_use(
    walk: _Walk,
    expression: Expression,
    place: Path,
    branch: tuple[tuple[int, str], ...],
    order: int,
) -> None:
    _check_variables(expression, place, RUN_VARIABLES, walk.report)
    for reference in expression.references:
        if reference.root == "vars" and reference.name not in walk.variables:
            walk.report.error(
                pointer(*place),
                f"no step sets the variable `{reference.name}`",
                nearest(reference.name, walk.variables),
            )
        elif reference.root == "steps":
            _check_reference(walk, reference.name, place, branch, order)


def _check_reference(
    walk: _Walk, name: str, place: Path, branch: tuple[tuple[int, str], ...], order: int
) -> None:
    target = walk.steps.get(name)
    at = pointer(*place)
    if target is None:
        walk.report.error(at, f"there is no step `{name}`", nearest(name, walk.steps))
    elif target.order == order:
        walk.report.error(at, f"the step `{name}` refers to itself")
    elif target.order > order:
        walk.report.error(
            at,
            f"the step `{name}` comes later, at {pointer(*target.path)}",
            "refer to steps that have run before",
        )
    elif (target.order, "then") in branch or (target.order, "else") in branch:
        walk.report.error(at, f"the block `{name}` is still running here")
    elif _apart(target.branch, branch):
        walk.report.warning(
            at,
            f"the step `{name}` is in the other branch of the same block, so it has not run here",
        )
    elif target.disabled:
        walk.report.warning(at, f"the step `{name}` is disabled and gives nothing")


def _apart(one: tuple[tuple[int, str], ...], other: tuple[tuple[int, str], ...]) -> bool:
    """Tell whether two places lie in different branches of one block."""
    return any(
        block == other_block and name != other_name
        for (block, name), (other_block, other_name) in zip(one, other, strict=False)
    )


def _check_settings(document: Mapping[str, Any], report: Report) -> None:
    if document.get("schedule") is not None:
        report.error(
            "/schedule",
            "schedules are not supported yet",
            "leave it out and start runs through the API",
        )
    settings = document.get("settings")
    mode = settings.get("mode") if isinstance(settings, dict) else None
    if mode in ("restart", "queued"):
        report.error(
            "/settings/mode",
            f"the mode `{mode}` is not supported yet",
            f"one of: {', '.join(RunSettings.supported_modes)}",
        )
    if mode == "single" and isinstance(settings, dict) and settings.get("max_runs") is not None:
        report.warning("/settings/max_runs", "has no effect in the mode `single`")


def _doubt(document: Mapping[str, Any], found: list[Step], report: Report) -> None:
    triggers = document.get("triggers")
    kinds = [
        trigger.get("type")
        for trigger in (triggers if isinstance(triggers, list) else ())
        if isinstance(trigger, dict)
    ]
    if not kinds:
        report.warning("/triggers", "no trigger: runs start by hand only")
    for path, step, _, _ in found:
        given = step.get("with")
        if step.get("disabled") is True:
            report.warning(pointer(*path, "disabled"), "this step is disabled")
        if step.get("type") == "if" and not step.get("then") and not step.get("else"):
            report.warning(pointer(*path), "this block does nothing")
        if not isinstance(given, dict):
            continue
        if step.get("type") in _BY_DEVICE and "device_id" not in given and "telemetry" not in kinds:
            report.warning(
                pointer(*path, "with"),
                "no device is given, and runs that are started by hand may have none",
                "add `device_id`",
            )
        if step.get("type") == "approval" and "timeout" not in given:
            report.warning(
                pointer(*path, "with"), "waits for a decision as long as the run may take"
            )
