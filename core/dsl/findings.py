"""What checking a definition comes to."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault or doubt in one place.

    Attributes:
        pointer: RFC 6901 JSON pointer into the definition, "" for the whole.
        message: A sentence.
        hint: What would mend it, when that is known.
    """

    pointer: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """All findings about one definition; errors forbid it, warnings do not."""

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether it may run."""
        return not self.errors


@dataclass(slots=True)
class Report:
    """Collects findings while a definition is walked through."""

    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def error(self, pointer: str, message: str, hint: str | None = None) -> None:
        """Add what forbids the definition."""
        self.errors.append(Finding(pointer, message, hint))

    def warning(self, pointer: str, message: str, hint: str | None = None) -> None:
        """Add what is allowed and probably not meant."""
        self.warnings.append(Finding(pointer, message, hint))

    def result(self) -> Validation:
        """Return what was found, each once."""
        return Validation(tuple(dict.fromkeys(self.errors)), tuple(dict.fromkeys(self.warnings)))


def pointer(*parts: str | int) -> str:
    """Return the RFC 6901 pointer of a path."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def nearest(word: object, known: Iterable[str]) -> str | None:
    """Return a hint that names the most similar known word."""
    names = sorted(known)
    close = difflib.get_close_matches(str(word)[:100], names, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None
