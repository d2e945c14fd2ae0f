"""The example automation is valid, fires on the real engines, and not too often."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from core.dsl.expressions import render_template
from core.dsl.telemetry_trigger import CompiledTrigger, Step, TriggerState
from core.dsl.validation import validate
from mlops.datasets.turbofan import FOLDER, SENSORS, engines_under_test

_HOUR = 3_600_000_000  # microseconds
_START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads((FOLDER / "automation.json").read_text())


def firings(document: dict[str, Any]) -> dict[int, list[int]]:
    """Return the true remaining cycles at each firing, by engine."""
    trigger = CompiledTrigger.compile(document["triggers"][0])
    column = SENSORS.index(trigger.metric)
    found: dict[int, list[int]] = {}
    for engine in engines_under_test():
        state = TriggerState()
        for cycle, row in enumerate(engine.cycles):
            at = _START + cycle * _HOUR
            if trigger.observe(state, at, at, float(row[column])) is Step.FIRED:
                left = engine.remaining + len(engine.cycles) - 1 - cycle
                found.setdefault(engine.unit, []).append(left)
    return found


def test_it_is_valid(document: dict[str, Any]) -> None:
    checked = validate(document)
    assert checked.errors == ()
    assert checked.warnings == ()


def test_it_fires_for_worn_engines_and_seldom(document: dict[str, Any]) -> None:
    found = firings(document)
    every = [left for engine in found.values() for left in engine]
    assert 15 <= len(found) <= 40
    assert len(every) <= 60
    # Most of those that fire are near their end, and some have time to act.
    assert sorted(every)[len(every) // 2] < 50
    worn = [engine.unit for engine in engines_under_test() if engine.remaining <= 30]
    assert len([unit for unit in worn if unit in found]) >= len(worn) / 2


def test_its_message_is_for_people(document: dict[str, Any]) -> None:
    gate = next(step for step in document["actions"] if step["type"] == "if")
    alarm = next(step for step in gate["then"] if step["type"] == "alarm")
    context = {"device": {"name": "E1"}, "steps": {"predict": {"time_to_event": 31.7}}}
    text = render_template(alarm["with"]["message"], context)
    assert text == "E1 is expected to fail in 31 hours"
