"""Forms that many domains share."""

import re
from math import isfinite
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api.deps import Page

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def check_storable(value: dict[str, Any]) -> dict[str, Any]:
    """Check that PostgreSQL can store a document.

    Raises:
        ValueError: It holds what JSON or PostgreSQL cannot carry.
    """
    try:
        encoded = msgspec.json.encode(value)
    except (OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError("has a number, a text or a depth that cannot be stored") from error
    if _NUL.search(encoded):
        raise ValueError("holds the character U+0000, which cannot be stored")
    if not _finite(value):
        raise ValueError("holds a number that is not finite")
    return value


def _finite(value: Any) -> bool:
    match value:
        case float():
            return isfinite(value)
        case dict():
            return all(map(_finite, value.values()))
        case list():
            return all(map(_finite, value))
        case _:
            return True


JsonObject = Annotated[dict[str, Any], AfterValidator(check_storable)]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
"""Text that PostgreSQL can store."""
SearchText = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, strip_whitespace=True, pattern=r"^[^\x00]*$"),
]


class Form(BaseModel):
    """Base of request bodies: a field that nobody knows is an error, not silently nothing."""

    model_config = ConfigDict(extra="forbid")


class View(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(from_attributes=True)


class Pagination(View):
    """Where in a list a page lies."""

    total: int
    page: int
    limit: int
    total_pages: int

    @classmethod
    def of(cls, page: Page, total: int) -> "Pagination":
        """Describe one page of a list of `total` entries."""
        return cls(
            total=total,
            page=page.number,
            limit=page.limit,
            total_pages=-(-total // page.limit),
        )


class ProblemError(View):
    """One fault in one place of the input."""

    pointer: str = Field(description='RFC 6901 JSON pointer, "" for the whole request.')
    message: str
    hint: str | None = None


class Problem(View):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable and machine-readable.")
    errors: list[ProblemError] = []
    id: str | None = Field(default=None, description="Names an internal error in the log.")
