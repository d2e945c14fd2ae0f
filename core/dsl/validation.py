"""Checks a definition without running it."""

from typing import Any

from core.dsl.findings import Finding, Report, Validation
from core.dsl.semantics import check_meaning
from core.dsl.shape import check_shape, check_size

__all__ = ["Finding", "Validation", "validate"]


def validate(document: Any) -> Validation:
    """Return everything that is wrong or doubtful with a definition; any JSON is answered."""
    report = Report()
    if not isinstance(document, dict):
        report.error("", "a definition is an object")
        return report.result()
    if check_size(document, report):
        check_shape(document, report)
        check_meaning(document, report)
    return report.result()
