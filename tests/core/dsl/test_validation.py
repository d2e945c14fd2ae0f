"""Static checks of definitions."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.dsl.schema import Definition, json_schema
from core.dsl.validation import Validation, validate

DEFINITION: dict[str, Any] = {
    "name": "Engine overheating",
    "triggers": [
        {
            "type": "telemetry",
            "device_type": "turbofan",
            "metric": "T50",
            "when": {"op": ">", "value": 1420},
            "for": "PT2M",
            "hysteresis": 5,
            "cooldown": "PT10M",
        },
        {"type": "manual"},
    ],
    "conditions": [{"expr": "device.metadata.site == 'plant-1'"}],
    "actions": [
        {
            "id": "predict",
            "type": "predict",
            "retry": {"attempts": 5, "backoff": "PT2S"},
            "timeout": "PT1M",
            "with": {"device_id": "${trigger.device_id}", "prediction_type": "failure"},
        },
        {
            "id": "gate",
            "type": "if",
            "condition": "steps.predict.probability > 0.8",
            "then": [
                {
                    "id": "ok",
                    "type": "approval",
                    "with": {"to": ["role:team_lead"], "timeout": "P2D"},
                },
                {
                    "id": "stop",
                    "type": "device_command",
                    "with": {"name": "throttle", "payload": {"to": 0.4}},
                },
            ],
            "else": [
                {"id": "note", "type": "set", "with": {"vars": {"limit": "${now}"}}},
            ],
        },
        {
            "id": "tell",
            "type": "webhook",
            "with": {"webhook": "w", "event_type": "e", "data": {"x": "${vars.limit}"}},
        },
    ],
    "settings": {"mode": "single", "timeout": "P7D"},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the definition with one value set, or removed when it is `...`."""
    document = copy.deepcopy(DEFINITION)
    last: Any
    *above, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    target: Any = document
    for part in above:
        target = target[part]
    if value is ...:
        del target[last]
    elif isinstance(target, list) and last == len(target):
        target.append(value)
    else:
        target[last] = value
    return document


def said(result: Validation) -> list[tuple[str, str, str | None]]:
    return [(finding.pointer, finding.message, finding.hint) for finding in result.errors]


def test_a_good_definition_has_no_findings() -> None:
    assert validate(DEFINITION) == Validation()
    assert Definition.model_validate(DEFINITION).actions[0].id == "predict"


@pytest.mark.parametrize(
    ("path", "value", "pointer", "message", "hint"),
    [
        ("actions/0/type", "predikt", "/actions/0/type", "no step of type `predikt`", "`predict`"),
        ("triggers/0/type", "telemetri", "/triggers/0/type", "no trigger", "`telemetry`"),
        ("actions/0/with/horizont", 3, "/actions/0/with/horizont", "not known", "`horizon`"),
        ("nam", 3, "/nam", "not known", "`name`"),
        ("actions/0/with/horizon", "3", "/actions/0/with/horizon", "must be a number", ""),
        ("actions/0/with/prediction_type", ..., "/actions/0/with", "`prediction_type` is miss", ""),
        ("actions/0/with/device_id", "x", "/actions/0/with/device_id", "UUID", ""),
        ("actions/0/timeout", "P1Y", "/actions/0/timeout", "no fixed length", ""),
        ("actions/0/retry/attempts", 0, "/actions/0/retry/attempts", "greater than", ""),
        ("actions/2/id", "ok", "/actions/2/id", "taken by /actions/1/then/0", ""),
        ("actions/2/id", "a-b", "/actions/2/id", "pattern", ""),
        ("actions/2/id", "in", "/actions/2/id", "word of the expressions", ""),
        ("actions/1/condition", "1 +", "/actions/1/condition", "at character 4", ""),
        ("actions/1/condition", "${true}", "/actions/1/condition", "by itself", ""),
        ("actions/1/condition", "steps.predikt.x > 1", "/actions/1/condition", "no step", "`pred"),
        ("actions/1/condition", "steps.tell.x", "/actions/1/condition", "comes later", ""),
        ("actions/1/condition", "steps['tell'].x", "/actions/1/condition", "comes later", ""),
        ("actions/1/condition", "steps.gate.x", "/actions/1/condition", "itself", ""),
        ("actions/1/condition", "devise.name == ''", "/actions/1/condition", "`devise`", "`device"),
        ("conditions/0/expr", "steps.predict.x", "/conditions/0/expr", "comes later", ""),
        (
            "actions/2/with/data/x",
            "${vars.limt}",
            "/actions/2/with/data/x",
            "sets the variable",
            "`limit`",
        ),
        ("actions/2/with/data/x", "a ${1 + } b", "/actions/2/with/data/x", "at character 9", ""),
        ("actions/2/with/data/x", "${1", "/actions/2/with/data/x", "not closed", ""),
        ("actions", [], "/actions", "at least 1", ""),
        ("schedule", {"cron": "0 6 * * *"}, "/schedule", "not supported yet", ""),
        ("settings/mode", "queued", "/settings/mode", "not supported yet", "parallel"),
        ("settings/mode", "paralel", "/settings/mode", "must be", "`parallel`"),
        ("name", "x" * 256, "/name", "at most 255", ""),
        ("actions/0/name", 5, "/actions/0/name", "must be a text", ""),
        ("triggers/0/when", {"expr": "valeu > 1"}, "/triggers/0/when/expr", "`valeu`", "`value`"),
        ("triggers/0/when", {"op": "~", "value": 1}, "/triggers/0/when/op", "must be", ""),
        ("triggers/0/hysteresis", -1, "/triggers/0/hysteresis", "greater than", ""),
    ],
)
def test_a_fault_is_named_with_its_place(
    path: str, value: object, pointer: str, message: str, hint: str
) -> None:
    errors = said(validate(changed(path, value)))
    assert any(
        at == pointer and message in text and hint in (proposal or "")
        for at, text, proposal in errors
    ), errors


def test_every_fault_is_told_at_once() -> None:
    document = changed("actions/1/condition", "1 +")
    document["unknown"] = 1
    document["actions"][0]["type"] = "predikt"
    assert {pointer for pointer, _, _ in said(validate(document))} == {
        "/unknown",
        "/actions/0/type",
        "/actions/1/condition",
    }


@pytest.mark.parametrize(
    ("path", "value", "pointer", "message"),
    [
        ("triggers", [], "/triggers", "by hand"),
        ("actions/0/disabled", True, "/actions/0/disabled", "disabled"),
        ("actions/0/disabled", True, "/actions/1/condition", "disabled and gives nothing"),
        ("actions/1/then/0/with/timeout", ..., "/actions/1/then/0/with", "waits"),
        (
            "actions/1/else/0/with/vars/limit",
            "${steps.ok.approved}",
            "/actions/1/else/0/with/vars/limit",
            "other branch",
        ),
        ("triggers", [{"type": "manual"}], "/actions/1/then/1/with", "no device"),
    ],
)
def test_a_doubt_is_a_warning(path: str, value: object, pointer: str, message: str) -> None:
    result = validate(changed(path, value))
    assert result.valid
    assert any(
        finding.pointer == pointer and message in finding.message for finding in result.warnings
    ), result.warnings


def test_a_step_in_a_branch_may_be_used_after_the_block() -> None:
    assert validate(changed("actions/2/with/data/x", "${steps.ok.approved}")) == Validation()


def test_blocks_and_steps_are_limited() -> None:
    step: dict[str, Any] = {"id": "s", "type": "set", "with": {"vars": {"x": 1}}}
    for level in range(9):
        step = {"id": f"b{level}", "type": "if", "condition": "true", "then": [step]}
    errors = said(validate({"name": "deep", "actions": [step]}))
    assert any("nested deeper" in message for _, message, _ in errors)

    blocks = [
        {
            "id": f"b{block}",
            "type": "if",
            "condition": "true",
            "then": [
                {"id": f"s{block}_{index}", "type": "set", "with": {"vars": {"x": 1}}}
                for index in range(50)
            ],
        }
        for block in range(4)
    ]
    errors = said(validate({"name": "many", "actions": blocks}))
    assert errors == [("/actions", "more than 200 steps", "split the automation")]


def test_a_huge_or_deep_document_is_refused_without_looking_into_it() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert "deeper" in said(validate({"name": deep}))[0][1]
    assert "larger" in said(validate({"name": [0] * 30_000}))[0][1]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
PATHS = sorted(
    {
        "name", "triggers", "triggers/0", "triggers/0/type", "triggers/0/when",
        "triggers/0/when/op", "triggers/0/for", "triggers/0/device_id", "conditions",
        "conditions/0", "conditions/0/expr", "actions", "actions/0", "actions/0/id",
        "actions/0/type", "actions/0/with", "actions/0/with/device_id", "actions/0/retry",
        "actions/0/timeout", "actions/1/condition", "actions/1/then", "actions/1/then/0/with",
        "actions/1/else/0/with/vars", "actions/2/with/data", "settings", "settings/mode",
        "settings/max_runs", "schedule", "unknown",
    }
)  # fmt: skip


@given(JSON_VALUES)
def test_any_json_is_answered(document: object) -> None:
    assert not validate(document).valid


@settings(max_examples=300)
@given(st.sampled_from(PATHS), JSON_VALUES)
def test_any_json_anywhere_is_answered_and_what_is_valid_can_be_parsed(
    path: str, value: object
) -> None:
    document = changed(path, value)
    result = validate(document)
    if result.valid:
        Definition.model_validate(document)


def test_the_json_schema_knows_every_step_and_the_templates() -> None:
    schema = json.dumps(json_schema())
    for name in ("if", "delay", "predict", "alarm", "device_command", "webhook", "approval", "set"):
        assert f'"const": "{name}"' in schema
    assert json_schema()["$defs"]["DelayParameters"]["properties"]["duration"]["anyOf"][1] == {
        "type": "string",
        "pattern": r"\$\{.*\}",
    }
