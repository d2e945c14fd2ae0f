"""Sparkplug payloads: protobuf to plain values, and commands back to protobuf.

Numbers are read by their datatype: a negative integer comes as two's complement, of its own width
or of the field's (implementations differ). NaN and the infinities are missing values. Of strings,
times and UUIDs people want the last one: they become attributes, a time as ISO 8601. Bytes, files,
arrays, data sets and templates have no place in this platform and are left out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Final

from google.protobuf.message import DecodeError

from broker.dialects.sparkplug.schema import PayloadMessage
from broker.ingest.payloads import FUTURE, MAX_METRICS, MAX_NAME, OLDEST, PayloadError


class DataType(IntEnum):
    """Datatypes of metrics that this platform has a place for (Sparkplug 3.0, 6.4.16)."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15


_BITS: Final = {
    DataType.INT8: 8,
    DataType.INT16: 16,
    DataType.INT32: 32,
    DataType.INT64: 64,
    DataType.UINT8: 8,
    DataType.UINT16: 16,
    DataType.UINT32: 32,
    DataType.UINT64: 64,
}
_SIGNED: Final = frozenset((DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64))
_TEXTS: Final = frozenset((DataType.STRING, DataType.TEXT, DataType.UUID, DataType.DATETIME))
_BY_FIELD: Final = {
    "int_value": DataType.UINT32,
    "long_value": DataType.UINT64,
    "float_value": DataType.FLOAT,
    "double_value": DataType.DOUBLE,
    "boolean_value": DataType.BOOLEAN,
    "string_value": DataType.STRING,
}
"""What a metric without datatype is taken for."""
_LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond that a datetime can say."""

MAX_IN_BIRTH: Final = 5000
"""Metrics of a birth certificate; the aliases of every node are kept in memory."""

Raw = int | float | bool | str | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it came.

    Attributes:
        name, alias: At least one of them, in a payload that keeps the rules.
        time: Epoch in microseconds, if it has one of its own.
        datatype: None when it has none, or one that this platform has no place for.
        value: Of the protobuf field; None is null.
        field: The protobuf field it came in.
        placeless: It has a value this platform has no place for.
    """

    name: str | None
    alias: int | None
    time: int | None
    datatype: DataType | None
    value: Raw
    field: str | None
    historical: bool
    transient: bool
    placeless: bool


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload; `time` is when it was sent, in microseconds."""

    time: int | None
    seq: int | None
    metrics: list[Metric]


def decode(payload: bytes) -> Payload:
    """Read a payload.

    Raises:
        PayloadError: It is no protobuf of Sparkplug B.
    """
    try:
        message = PayloadMessage.FromString(payload)
        if len(message.metrics) > MAX_IN_BIRTH:
            raise PayloadError("too_many", "/metrics", f"more than {MAX_IN_BIRTH} metrics")
        metrics = [_metric(metric) for metric in message.metrics]
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(
            "not_sparkplug", "", f"the payload is no Sparkplug B: {error}"[:500]
        ) from error
    return Payload(
        message.timestamp * 1000 if message.HasField("timestamp") else None,
        message.seq if message.HasField("seq") else None,
        metrics,
    )


def _metric(metric: Any) -> Metric:
    field = metric.WhichOneof("value")
    code = metric.datatype
    known = DataType(code) if code in DataType._value2member_map_ else None
    value = None if field is None or metric.is_null else getattr(metric, field)
    # protobuf hands out a proto2 string that is no UTF-8 as bytes.
    if isinstance(metric.name, bytes) or (field == "string_value" and isinstance(value, bytes)):
        raise PayloadError("invalid_text", "/metrics", "a text is not UTF-8")
    return Metric(
        metric.name if metric.HasField("name") and metric.name else None,
        metric.alias if metric.HasField("alias") else None,
        metric.timestamp * 1000 if metric.HasField("timestamp") else None,
        known,
        None if isinstance(value, bytes) else value,
        field,
        metric.is_historical,
        metric.is_transient,
        isinstance(value, bytes) or bool(code and known is None),
    )


@dataclass(slots=True)
class Reading:
    """What the metrics of one payload say.

    Attributes:
        samples: Time (None is that of the receipt) → name → number; historical ones apart.
        attributes: Texts by name; null takes one away.
    """

    samples: dict[int | None, dict[str, float | None]]
    historical: dict[int | None, dict[str, float | None]]
    attributes: dict[str, Any]


def read(metrics: list[tuple[str, DataType | None, Metric]], sent: int | None, now: int) -> Reading:
    """Read metrics whose names, and datatypes where they are known, have been found.

    Raises:
        PayloadError: One of them cannot be taken; then none is.
    """
    if len(metrics) > MAX_METRICS:
        raise PayloadError("too_many", "/metrics", f"more than {MAX_METRICS} metrics")
    reading = Reading({}, {}, {})
    for name, datatype, metric in metrics:
        if metric.placeless or metric.transient:
            continue
        pointer = f"/{name.replace('~', '~0').replace('/', '~1')}"[:500]
        if len(name) > MAX_NAME or name == "ts" or "\0" in name:
            raise PayloadError(
                "invalid_name", pointer, f"a name has 1 to {MAX_NAME} characters and is not `ts`"
            )
        kind = datatype or _BY_FIELD.get(metric.field or "")
        if kind is None:
            continue  # null, and nobody ever said of which type
        time = metric.time if metric.time is not None else sent
        if time is not None and not OLDEST <= time <= now + FUTURE:
            raise PayloadError(
                "time_out_of_range", pointer, "the time is before 2000 or more than a day ahead"
            )
        try:
            value = _value(kind, metric.value)
        except (TypeError, ValueError, OverflowError) as error:
            raise PayloadError(
                "invalid_value", pointer, f"not a value of the type {kind.name}: {error}"[:500]
            ) from error
        if kind in _TEXTS:
            if isinstance(value, str) and "\0" in value:
                raise PayloadError("invalid_text", pointer, "text must not contain U+0000")
            reading.attributes[name] = value
        else:
            group = reading.historical if metric.historical else reading.samples
            group.setdefault(time, {})[name] = None if value is None else float(value)
    return reading


def _value(kind: DataType, raw: Raw) -> float | str | None:
    if raw is None:
        return None
    if kind in _BITS:
        if not isinstance(raw, int):
            raise TypeError(f"{raw!r} is no integer")
        number = raw & ((1 << _BITS[kind]) - 1) if kind in _SIGNED else raw
        if kind in _SIGNED and number >> (_BITS[kind] - 1):
            number -= 1 << _BITS[kind]
        return float(number)
    match kind:
        case DataType.FLOAT | DataType.DOUBLE:
            if isinstance(raw, str):
                raise TypeError("a text is no number")
            number = float(raw)
            return number if math.isfinite(number) else None
        case DataType.BOOLEAN:
            if isinstance(raw, str):
                raise TypeError("a text is no boolean")
            return 1.0 if raw else 0.0
        case DataType.DATETIME:
            if isinstance(raw, str) or raw > _LATEST_MS:
                raise ValueError("no epoch milliseconds")
            return datetime.fromtimestamp(raw / 1000, UTC).isoformat(timespec="milliseconds")
        case _:
            if not isinstance(raw, str):
                raise TypeError(f"{raw!r} is no text")
            return raw


class CommandError(Exception):
    """A command that cannot be said in Sparkplug; says why."""


def encode_command(
    values: Mapping[str, Any],
    types: Mapping[str, DataType],
    aliases: Mapping[str, int],
    now: int,
) -> bytes:
    """Return the payload of an NCMD or DCMD.

    A metric whose birth gave it an alias is named by that alone (Sparkplug 3.0, 6.4.9).

    Args:
        values: Name → new value.
        types: Datatypes by name, as the birth said.
        aliases: Aliases by name, as the birth said.
        now: Epoch in milliseconds.

    Raises:
        CommandError: A name is unknown, or a value not of its type.
    """
    message = PayloadMessage(timestamp=now)
    for name, value in values.items():
        kind = types.get(name)
        if kind is None:
            raise CommandError(f"there is no metric {name!r} in the birth certificate")
        metric = message.metrics.add(timestamp=now, datatype=int(kind))
        if name in aliases:
            metric.alias = aliases[name]
        else:
            metric.name = name
        _write(metric, name, kind, value)
    return message.SerializeToString()


def _write(metric: Any, name: str, kind: DataType, value: Any) -> None:
    wrong = CommandError(f"{value!r} is no value of {name!r}, a {kind.name}"[:500])
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None:
        metric.is_null = True
    elif kind in _BITS:
        bits, signed = _BITS[kind], kind in _SIGNED
        low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
        if not number or value != int(value) or not low <= value < high:
            raise wrong
        written = int(value) & ((1 << bits) - 1)
        setattr(metric, "long_value" if bits == 64 else "int_value", written)
    elif kind in (DataType.FLOAT, DataType.DOUBLE):
        if not number:
            raise wrong
        try:
            setattr(metric, "float_value" if kind is DataType.FLOAT else "double_value", value)
        except (TypeError, ValueError, OverflowError) as error:
            raise wrong from error
    elif kind is DataType.BOOLEAN:
        if not isinstance(value, bool):
            raise wrong
        metric.boolean_value = value
    elif kind is DataType.DATETIME:
        if not number or not 0 <= value <= _LATEST_MS:
            raise wrong
        metric.long_value = int(value)
    else:
        if not isinstance(value, str):
            raise wrong
        metric.string_value = value
