"""Payloads: what a device may say, and why something cannot be taken.

Telemetry comes in three forms: `{"ts": …, "values": {…}}`, a flat object of metrics (a member `ts`
is its time), or a list of either. `ts` is epoch milliseconds or ISO 8601 (without an offset: UTC);
without it the time is that of the receipt. Numbers and booleans (as 1 and 0) are measurements,
null is a missing one, strings are attributes. One fault refuses the whole message.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from core.limits import FUTURE, MAX_METRICS, MAX_NAME, OLDEST

MAX_REPORTED: Final = 64 * 1024
"""Bytes of JSON that the reported state of one twin may have."""

_LATEST: Final = 1e15  # milliseconds; what is beyond no datetime can say


class WrappedTelemetry(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The usual form with nothing but numbers; anything else goes through `parse_telemetry`."""

    values: dict[str, float]
    ts: int | float | str | None = None


decode_wrapped = msgspec.json.Decoder(WrappedTelemetry).decode
decode_flat = msgspec.json.Decoder(dict[str, float]).decode
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class PayloadError(Exception):
    """A payload that cannot be taken.

    Attributes:
        code: Stable and machine-readable.
        pointer: RFC 6901 pointer to the offending value.
        message: A sentence that says what is wrong.
    """

    def __init__(self, code: str, pointer: str, message: str) -> None:
        super().__init__(message)
        self.code, self.pointer, self.message = code, pointer, message


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one time; None is the time of receipt."""

    time: int | None
    values: dict[str, float | None]


@dataclass(slots=True)
class Telemetry:
    """What one message holds."""

    samples: list[Sample] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceEventPayload:
    """A named event; None is the time of receipt."""

    name: str
    time: int | None
    data: dict[str, Any]


def parse_telemetry(payload: bytes, now: int) -> Telemetry:
    """Read telemetry in any of its forms.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = _json(payload)
    telemetry = Telemetry()
    if isinstance(document, list):
        if not document:
            raise PayloadError("empty", "", "the list is empty")
        for position, item in enumerate(document):
            _sample(item, f"/{position}", now, telemetry)
    else:
        _sample(document, "", now, telemetry)
    return telemetry


def parse_lenient_telemetry(payload: bytes, now: int) -> Telemetry:
    """Read telemetry with what ThingsBoard's clients may say beside.

    `metadata` (and whatever else stands) beside `values` is passed over, and a JSON object or list
    as a value becomes an attribute, as texts do.

    Raises:
        PayloadError: It cannot be taken.
    """
    try:
        return parse_telemetry(payload, now)
    except PayloadError as error:
        if error.code not in ("unknown_field", "unsupported_type"):
            raise
    document = _decode(payload)  # it was JSON a moment ago
    attributes: dict[str, Any] = {}
    items = document if isinstance(document, list) else [document]
    kept = [plain for item in items if (plain := _plain(item, attributes)) is not None]
    if not kept:
        return Telemetry([], parse_attributes(_encode(attributes)))
    found = parse_telemetry(_encode(kept), now)
    if attributes:
        found.attributes.update(parse_attributes(_encode(attributes)))
    return found


def _plain(item: Any, attributes: dict[str, Any]) -> Any:
    """Return an item in the strict form, or None when nothing is left of it."""
    if not isinstance(item, dict):
        return item
    wrapped = isinstance(item.get("values"), dict)
    values = item["values"] if wrapped else item
    numbers: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict | list):
            attributes[name] = value
        else:
            numbers[name] = value
    if not wrapped:
        return numbers if numbers.keys() - {"ts"} else None
    if not numbers:
        return None
    return {"ts": item["ts"], "values": numbers} if "ts" in item else {"values": numbers}


def parse_attributes(payload: bytes) -> dict[str, Any]:
    """Read reported attributes: an object; null removes a member.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = _json(payload)
    if not isinstance(document, dict) or not document:
        raise PayloadError("invalid_attributes", "", "attributes are an object with members")
    if len(document) > MAX_METRICS:
        raise PayloadError("too_many", "", f"more than {MAX_METRICS} attributes")
    for name in document:
        _check_name(name, "")
    if len(payload) > MAX_REPORTED:
        kept = {name: value for name, value in document.items() if value is not None}
        if len(_encode(kept)) > MAX_REPORTED:
            raise twin_too_large()
    return document


def twin_too_large() -> PayloadError:
    """Return why a patch is refused that is, or makes the reported state, too large."""
    return PayloadError(
        "twin_too_large",
        "",
        f"the reported state would have more than {MAX_REPORTED // 1024} KiB of JSON",
    )


def parse_event(payload: bytes, now: int) -> DeviceEventPayload:
    """Read an event: `{"name": …, "ts": …, "data": {…}}`, of which only the name must be there.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = _json(payload)
    if not isinstance(document, dict):
        raise PayloadError("invalid_event", "", "an event is an object")
    name, data = document.get("name"), document.get("data", {})
    if not isinstance(name, str) or not name:
        raise PayloadError("invalid_event", "/name", "an event has a name")
    _check_name(name, "", "/name")
    if not isinstance(data, dict):
        raise PayloadError("invalid_event", "/data", "an event's data is an object")
    for member in document:
        if member not in ("name", "ts", "data"):
            raise PayloadError("unknown_field", _pointer("", member), "an event has no such field")
    return DeviceEventPayload(name, _time(document.get("ts"), "/ts", now), data)


def parse_response(payload: bytes) -> tuple[UUID, dict[str, Any]]:
    """Read the answer to a command: `{"id": …, "response": {…}}`.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = _json(payload)
    if not isinstance(document, dict):
        raise PayloadError("invalid_response", "", "a response is an object")
    response = document.get("response", {})
    if not isinstance(response, dict):
        raise PayloadError("invalid_response", "/response", "`response` is an object")
    try:
        return UUID(str(document.get("id"))), response
    except ValueError as error:
        raise PayloadError(
            "invalid_response", "/id", "`id` must repeat the id of the command"
        ) from error


def _json(payload: bytes) -> Any:
    try:
        document = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("not_json", "", f"the payload is not JSON: {error}"[:500]) from error
    if b"\\u0000" in payload and not _storable(document):
        raise PayloadError("invalid_text", "", "text must not contain U+0000")
    return document


def _storable(value: Any) -> bool:
    match value:
        case str():
            return "\0" not in value
        case dict():
            return all(_storable(key) and _storable(item) for key, item in value.items())
        case list():
            return all(_storable(item) for item in value)
        case _:
            return True


def _pointer(base: str, name: str) -> str:
    return f"{base}/{name.replace('~', '~0').replace('/', '~1')}"[:500]


def _check_name(name: str, base: str, pointer: str | None = None) -> None:
    if not name or len(name) > MAX_NAME:
        raise PayloadError(
            "invalid_name",
            pointer or _pointer(base, name),
            f"a name has 1 to {MAX_NAME} characters",
        )


def _sample(item: Any, base: str, now: int, into: Telemetry) -> None:
    if not isinstance(item, dict):
        raise PayloadError(
            "invalid_form", base, "telemetry is an object of metrics or has `ts` and `values`"
        )
    time = _time(item.get("ts"), f"{base}/ts", now)
    values, inside = item, base
    if isinstance(item.get("values"), dict):
        for member in item:
            if member not in ("ts", "values"):
                raise PayloadError(
                    "unknown_field", _pointer(base, member), "beside `values` only `ts` may stand"
                )
        values, inside = item["values"], f"{base}/values"
    numbers: dict[str, float | None] = {}
    texts: dict[str, str] = {}
    for name, value in values.items():
        if name == "ts" and values is item:
            continue
        _check_name(name, inside)
        if name == "ts":
            raise PayloadError("reserved_name", f"{inside}/ts", "no metric can be named `ts`")
        match value:
            case bool() | int() | float():
                numbers[name] = _number(value, _pointer(inside, name))
            case None:
                numbers[name] = None
            case str():
                texts[name] = value
            case _:
                kind = "an object" if isinstance(value, dict) else "a list"
                raise PayloadError(
                    "unsupported_type",
                    _pointer(inside, name),
                    f"a metric is a number, a boolean, a string or null, not {kind}",
                )
    if not numbers and not texts:
        raise PayloadError("empty", inside, "there is no value in it")
    if len(numbers) + len(texts) > MAX_METRICS:
        raise PayloadError("too_many", inside, f"more than {MAX_METRICS} metrics")
    if numbers:
        into.samples.append(Sample(time, numbers))
    into.attributes.update(texts)


def _number(value: float, pointer: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise PayloadError("out_of_range", pointer, "the number is too large") from error


def _time(ts: Any, pointer: str, now: int) -> int | None:
    match ts:
        case None:
            return None
        case bool():
            time = None
        case int() | float():
            time = int(ts * 1000) if abs(ts) < _LATEST else now + 2 * FUTURE
        case str():
            time = _iso(ts)
        case _:
            time = None
    if time is None:
        raise PayloadError(
            "invalid_time", pointer, "a time is epoch milliseconds or ISO 8601 in a string"
        )
    if not OLDEST <= time <= now + FUTURE:
        raise PayloadError(
            "time_out_of_range",
            pointer,
            "the time is before 2000 or more than a day ahead; numbers are epoch milliseconds",
        )
    return time


def _iso(text: str) -> int | None:
    if len(text) > 8 and text.isascii() and text.isdecimal():
        # `fromisoformat` would read epoch milliseconds as a date without separators.
        return int(text) * 1000 if len(text) < 16 else 2**63
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        return None
