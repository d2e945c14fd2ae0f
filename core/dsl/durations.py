"""ISO 8601 durations with a fixed length."""

import re
from datetime import timedelta
from typing import Final

_FORM: Final = re.compile(
    r"P(?:(?P<weeks>\d{1,6})W"
    r"|(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d{1,8})H)?(?:(?P<minutes>\d{1,8})M)?"
    r"(?:(?P<seconds>\d{1,10}(?:[.,]\d{1,6})?)S)?)?)"
)
_CALENDAR: Final = re.compile(r"P\d+[YM]")
LONGEST: Final = timedelta(days=3650)


def parse_duration(text: str) -> timedelta:
    """Return the length of an ISO 8601 duration, such as `PT90S`, `P2DT12H` or `P1W`.

    Years and months are refused: how long they are depends on the calendar.

    Raises:
        ValueError: It is no such duration, is zero, or is longer than ten years.
    """
    match = _FORM.fullmatch(text)
    parts = {name: part for name, part in match.groupdict().items() if part} if match else {}
    if not parts:
        if _CALENDAR.match(text):
            raise ValueError("years and months have no fixed length; give days, such as P30D")
        raise ValueError("not an ISO 8601 duration, such as PT90S, PT5M, PT12H or P2D")
    length = timedelta(**{name: float(part.replace(",", ".")) for name, part in parts.items()})
    if length > LONGEST:
        raise ValueError("longer than ten years")
    if not length:
        raise ValueError("a duration must be longer than zero")
    return length
