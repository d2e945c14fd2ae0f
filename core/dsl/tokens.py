"""The words of a CEL expression: enough to find references and literals without a parser.

Lexical rules: CEL specification, "Syntax" (https://github.com/google/cel-spec).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["string", "float", "int", "word", "sign"]

_TOKEN: Final = re.compile(
    r"""
      (?P<skip>\s+|//[^\n]*)
    | (?P<string>
          [bB]?[rR](?:'{3}.*?'{3}|"{3}.*?"{3}|'[^'\n]*'|"[^"\n]*")
        | [bB]?(?:'{3}(?:\\.|[^\\])*?'{3}|"{3}(?:\\.|[^\\])*?"{3}
                 |'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
    | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
    | (?P<int>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})


@dataclass(frozen=True, slots=True)
class Token:
    """One word of an expression and where it begins."""

    kind: Kind
    text: str
    start: int


def tokens(source: str, start: int = 0) -> Iterator[Token]:
    """Yield the words from `start` on; what CEL would refuse comes out as signs."""
    for match in _TOKEN.finditer(source, start):
        match match.lastgroup:
            case "string" | "float" | "int" | "word" | "sign" as kind:
                yield Token(kind, match.group(), match.start())
            case _:
                continue


@dataclass(frozen=True, slots=True)
class Reference:
    """`root.name` or `root['name']` in an expression, and where it begins."""

    root: str
    name: str
    start: int


def references(source: str) -> tuple[Reference, ...]:
    """Return the fields that are selected from variables, such as `steps.predict`."""
    words = list(tokens(source))
    found: list[Reference] = []
    for index, word in enumerate(words):
        if word.kind != "word" or (index and words[index - 1].text == "."):
            continue
        after = words[index + 1 : index + 4]
        if len(after) >= 2 and after[0].text == "." and after[1].kind == "word":
            found.append(Reference(word.text, after[1].text, word.start))
        elif (
            len(after) == 3
            and (after[0].text, after[2].text) == ("[", "]")
            and after[1].kind == "string"
            and after[1].text[0] in "'\""
        ):
            found.append(Reference(word.text, after[1].text.strip("'\""), word.start))
    return tuple(found)


def bound_names(source: str) -> frozenset[str]:
    """Return the names that macros bind, such as the `x` of `list.map(x, x * 2)`."""
    words = list(tokens(source))
    return frozenset(
        words[index + 3].text
        for index in range(len(words) - 4)
        if words[index].text == "."
        and words[index + 1].text in _MACROS
        and words[index + 2].text == "("
        and words[index + 3].kind == "word"
        and words[index + 4].text == ","
    )


def macro_depth(source: str) -> int:
    """Return how deep macros that loop are nested: the exponent of the cost."""
    deepest = depth = 0
    opened: list[bool] = []
    before: tuple[str, str] = ("", "")
    for word in tokens(source):
        if word.text == "(" and word.kind == "sign":
            loops = before[0] == "." and before[1] in _MACROS
            opened.append(loops)
            depth += loops
            deepest = max(deepest, depth)
        elif word.text == ")" and word.kind == "sign" and opened:
            depth -= opened.pop()
        before = (before[1], word.text)
    return deepest


def with_doubles(source: str) -> str:
    """Return the expression with decimal whole numbers written as doubles: `x + 1` as `x + 1.0`.

    Whole numbers that stand alone between brackets are positions in lists and stay.
    """
    words = list(tokens(source))
    parts: list[str] = []
    end = 0
    for index, word in enumerate(words):
        if word.kind != "int" or not word.text.isdecimal():
            continue
        around = (
            words[index - 1].text if index else "",
            words[index + 1].text if index + 1 < len(words) else "",
        )
        if around == ("[", "]"):
            continue
        stop = word.start + len(word.text)
        parts += [source[end:stop], ".0"]
        end = stop
    return "".join(parts) + source[end:]


def template_end(text: str, start: int) -> int:
    """Return where the `}` stands that closes a `${` whose expression begins at `start`, or -1."""
    depth = 0
    for word in tokens(text, start):
        if word.kind != "sign":
            continue
        if word.text == "{":
            depth += 1
        elif word.text == "}":
            if depth == 0:
                return word.start
            depth -= 1
    return -1
