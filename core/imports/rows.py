"""From the cells of a row to a measurement, or to the reason why it is none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from core.errors import FieldError, InvalidInputError
from core.imports.files import Row
from core.imports.mapping import ImportMapping
from core.limits import FUTURE, MAX_METRICS, MAX_NAME, OLDEST

_TEXT: Final = 4000
"""Characters of a refused row's cell that are kept."""
_SCALE: Final = {"epoch_s": 1_000_000, "epoch_ms": 1000, "epoch_us": 1, "auto": 1000}
"""Microseconds of a numeric time's unit."""
_TRUTH: Final = {"true": 1.0, "false": 0.0}
_MISSING: Final = frozenset({"", "nan", "null", "none", "na", "n/a"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that cannot be taken.

    Attributes:
        column: Which column is at fault; "" is the row as a whole.
        cells: The row as text.
    """

    row: int
    column: str
    code: str
    message: str
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a row says.

    Attributes:
        device: As the file names it; None is the device of all rows.
        time: Microseconds since 1970.
    """

    row: Row
    device: str | None
    time: int
    names: tuple[str, ...]
    values: list[float | None]


class _FaultError(Exception):
    def __init__(self, column: str, code: str, message: str) -> None:
        super().__init__(message)
        self.column, self.code, self.message = column, code, message


class RowReader:
    """Reads rows by what their columns mean.

    Raises:
        InvalidInputError: The mapping names columns that are not there, or leaves no metric.
    """

    def __init__(self, mapping: ImportMapping, columns: Sequence[str]) -> None:
        self._mapping = mapping
        self._columns = list(columns)
        places = {name: place for place, name in enumerate(columns)}
        wanted = {
            "device_column": mapping.device_column,
            "time_column": mapping.time_column,
            "metric_column": mapping.metric_column,
            "value_column": mapping.value_column,
        }
        faults = [
            FieldError(f"/mapping/{field}", f"The file has no column {name!r}.")
            for field, name in wanted.items()
            if name is not None and name not in places
        ]
        metrics = mapping.metrics
        if metrics is None and not mapping.long:
            taken = set(wanted.values())
            metrics = {name: name for name in columns if name not in taken}
        for column in metrics or ():
            if column not in places:
                pointer = column.replace("~", "~0").replace("/", "~1")
                faults.append(
                    FieldError(f"/mapping/metrics/{pointer}", f"The file has no column {column!r}.")
                )
        if not faults and not mapping.long and not 0 < len(metrics or ()) <= MAX_METRICS:
            faults.append(FieldError("/mapping/metrics", f"There must be 1 to {MAX_METRICS}."))
        faults += [
            FieldError("/mapping/metrics", f"{name!r} can name no metric.")
            for name in (metrics or {}).values()
            if _bad_name(name)
        ]
        if faults:
            raise InvalidInputError("The mapping does not fit the file.", errors=tuple(faults[:50]))
        self._places = places
        self._names = tuple((metrics or {}).values())
        self._metrics = [(places[column], column) for column in metrics or ()]

    def read(self, row: Row, now: int) -> Measured | Refusal:
        """Return what a row says; `now` is the time in microseconds."""
        try:
            return self._read(row, now)
        except _FaultError as fault:
            return refusal(row, fault.column, fault.code, fault.message)

    def _read(self, row: Row, now: int) -> Measured:
        cells = row.cells
        if cells is None:
            raise _FaultError("", "unreadable", "the row cannot be read as CSV")
        if len(cells) != len(self._columns):
            raise _FaultError(
                "", "wrong_columns", f"{len(cells)} cells for {len(self._columns)} columns"
            )
        mapping, places = self._mapping, self._places
        device: str | None = None
        if mapping.device_column is not None:
            cell = cells[places[mapping.device_column]]
            device = "" if cell is None else str(cell).strip()
            if not device or "\0" in device:
                raise _FaultError(mapping.device_column, "unknown_device", "no device is named")
            if mapping.device_by == "id":
                device = _uuid(device, mapping.device_column)
        time = self._time(cells[places[mapping.time_column]], now)
        if mapping.metric_column is not None and mapping.value_column is not None:
            name = str(cells[places[mapping.metric_column]] or "").strip()
            if _bad_name(name):
                raise _FaultError(
                    mapping.metric_column,
                    "invalid_name",
                    f"a name has 1 to {MAX_NAME} characters and is not `ts`",
                )
            names: tuple[str, ...] = (name,)
            values = [_number(cells[places[mapping.value_column]], mapping.value_column)]
        else:
            names = self._names
            values = [_number(cells[place], column) for place, column in self._metrics]
        if all(value is None for value in values):
            raise _FaultError("", "empty", "there is no value in it")
        return Measured(row, device, time, names, values)

    def _time(self, cell: Any, now: int) -> int:
        column, form = self._mapping.time_column, self._mapping.time_format
        time = _time(cell, form)
        if time is None:
            raise _FaultError(column, "invalid_time", f"this is no time of the form {form}")
        if not OLDEST <= time <= now + FUTURE:
            raise _FaultError(
                column, "time_out_of_range", "the time is before 2000 or more than a day ahead"
            )
        return time


def refusal(row: Row, column: str, code: str, message: str) -> Refusal:
    """Return why a row is not taken."""
    cells = ["" if cell is None else str(cell) for cell in row.cells or ()]
    return Refusal(
        row.number, column, code, message, [c.replace("\0", "\ufffd")[:_TEXT] for c in cells]
    )


def unknown_device(one: Measured, column: str | None) -> Refusal:
    """Return why a row is refused whose device is not there."""
    message = f"there is no device {one.device!r}"
    return refusal(one.row, column or "", "unknown_device", message)


def _bad_name(name: str) -> bool:
    return not name or len(name) > MAX_NAME or name == "ts" or "\0" in name


def _uuid(text: str, column: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise _FaultError(column, "unknown_device", "this is no device's id") from error


def _number(cell: Any, column: str) -> float | None:
    """Return a value; booleans as 1 and 0, what is missing as None."""
    if isinstance(cell, str):
        text = cell.strip()
        low = text.lower()
        if low in _MISSING:
            return None
        if low in _TRUTH:
            return _TRUTH[low]
        try:
            cell = float(text)
        except ValueError as error:
            raise _FaultError(
                column, "unsupported_type", "a metric is a number or a boolean"
            ) from error
    if cell is None:
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError) as error:
        raise _FaultError(column, "unsupported_type", "a metric is a number or boolean") from error
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise _FaultError(column, "out_of_range", "the number is too large")
    return number


def _time(cell: Any, form: str) -> int | None:
    """Return a time in microseconds; None when it is none of this form."""
    if isinstance(cell, datetime):
        return _moment(cell)
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, str):
        if form == "iso8601":
            return _iso(cell.strip())
        # Numbers first: some of 13 digits would pass as dates of centuries ago.
        try:
            cell = int(cell)
        except ValueError:
            try:
                cell = float(cell)
            except ValueError:
                return _iso(cell.strip()) if form == "auto" else None
    scale = _SCALE.get(form)
    if scale is None or not isinstance(cell, int | float):
        return None
    try:
        return int(cell * scale)
    except (OverflowError, ValueError):
        return None


def _iso(text: str) -> int | None:
    try:
        return _moment(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _moment(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000)
