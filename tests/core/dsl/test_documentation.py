"""The examples of the documentation are valid."""

import json
import re
from pathlib import Path

import pytest

from core.dsl.validation import validate

_TEXT = (Path(__file__).parents[3] / "docs" / "automations.md").read_text()
EXAMPLES = re.findall(r"^```json\n(.*?)^```$", _TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_has_no_errors_and_no_warnings(text: str) -> None:
    result = validate(json.loads(text))
    assert (result.errors, result.warnings) == ((), ())


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2
