"""Reads files of measurements in batches; memory is bounded by the batch, not by the file."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from core.errors import InvalidInputError

FileFormat = Literal["csv", "parquet"]

MAX_COLUMNS: Final = 2000
_HEADER: Final = 1024 * 1024  # bytes within which the header of a CSV file ends


class Row(NamedTuple):
    """One row; the first after the header has the number 1. Without cells it is unreadable."""

    number: int
    cells: Sequence[Any] | None


class Batch(NamedTuple):
    """Some rows, and which share of the file has been read by their end."""

    rows: list[Row]
    fraction: float


class _Counted(io.RawIOBase):
    """A file that knows how much was read of it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size = path.stat().st_size
        self.count = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read, and count."""
        count = self._file.readinto(buffer)
        self.count += count
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def file_of(folder: Path, import_id: UUID, kind: str) -> Path:
    """Return where the file of an import lies."""
    return folder / f"{import_id}.{kind}"


def columns_of(path: Path, kind: FileFormat) -> list[str]:
    """Return the names of a file's columns; blocking.

    Raises:
        InvalidInputError: The file is not what it claims to be, or its columns have no use.
    """
    columns = _csv_columns(path) if kind == "csv" else _parquet_columns(path)
    if not columns or len(columns) > MAX_COLUMNS:
        raise InvalidInputError(f"The file has {len(columns)} columns, not 1 to {MAX_COLUMNS}.")
    if any("\0" in name or len(name) > 255 for name in columns):
        raise InvalidInputError("A column's name is too long or no text.")
    if len(set(columns)) < len(columns):
        twice = sorted(name for name in set(columns) if columns.count(name) > 1)
        raise InvalidInputError(f"Columns are there twice: {', '.join(twice)[:500]}.")
    return columns


def batches(path: Path, kind: FileFormat, *, after: int, size: int) -> Iterator[Batch]:
    """Yield the rows after the row `after`, `size` at a time; blocking."""
    return _csv_batches(path, after, size) if kind == "csv" else _parquet_batches(path, after, size)


# --- CSV: the standard library's reader, which keeps the rows' numbers whatever is in them ------


def _delimiter(path: Path) -> str:
    with path.open("rb") as file:
        line = file.readline(_HEADER).decode("utf-8-sig", "replace")
    return max(",;\t|", key=line.count)


def _csv_columns(path: Path) -> list[str]:
    delimiter = _delimiter(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            header = next(csv.reader(file, delimiter=delimiter), [])
        except csv.Error as error:
            raise InvalidInputError(f"The header cannot be read: {error}.") from error
    return [name.strip() for name in header]


def _csv_batches(path: Path, after: int, size: int) -> Iterator[Batch]:
    delimiter = _delimiter(path)
    raw = _Counted(path)
    text = io.TextIOWrapper(
        io.BufferedReader(raw, 256 * 1024), encoding="utf-8-sig", errors="replace", newline=""
    )
    with text:
        records = _csv_records(csv.reader(text, delimiter=delimiter))
        next(records, None)  # the header
        numbered = enumerate(records, 1)
        rows = (Row(number, cells) for number, cells in numbered if number > after)
        while batch := list(islice(rows, size)):
            yield Batch(batch, raw.count / raw.size)


def _csv_records(reader: Iterator[list[str]]) -> Iterator[list[str] | None]:
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None
        else:
            if record:
                yield record


# --- Parquet: pyarrow is imported when the first such file comes, since it takes a second --------


def _parquet_columns(path: Path) -> list[str]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            return list(file.schema_arrow.names)
    except (ArrowException, OSError, ValueError) as error:
        raise InvalidInputError(f"The file is not Parquet: {error}"[:500]) from error


def _parquet_batches(path: Path, after: int, size: int) -> Iterator[Batch]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        total = max(1, file.metadata.num_rows)
        group, before = 0, 0
        while group < file.num_row_groups:
            rows = file.metadata.row_group(group).num_rows
            if before + rows > after:
                break
            before += rows
            group += 1
        number = before
        for batch in file.iter_batches(size, row_groups=range(group, file.num_row_groups)):
            columns = [_cells(column) for column in batch.columns]
            rows = [
                Row(number + place, cells)
                for place, cells in enumerate(zip(*columns, strict=True), 1)
                if number + place > after
            ]
            number += batch.num_rows
            if rows:
                yield Batch(rows, number / total)


def _cells(column: Any) -> list[Any]:
    """Return a column's values; times as epoch microseconds, which keep their meaning in UTC."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    return column.to_pylist()
