"""Measurements as a file: written while they are read, a page of rows in memory at a time."""

import csv
import io
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, Literal, Protocol
from uuid import UUID

from api.work import Work
from core.db.repositories import telemetry, telemetry_rows
from core.db.repositories.telemetry_rows import Message

Format = Literal["csv", "parquet"]
MEDIA: Final[dict[Format, str]] = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
COLUMNS: Final = ("time", "device_id", "metric", "value", "quality")
_DEVICES: Final = 1000
_ROWS: Final = 2000
_GOOD: Final = 100

Line = tuple[datetime, str, str, float | None, int]


class _Writer(Protocol):
    """Encodes lines; what comes back are the bytes that are ready."""

    def write(self, lines: list[Line]) -> bytes: ...

    def close(self) -> bytes: ...


async def stream(
    works: Callable[[], AbstractAsyncContextManager[Work]],
    *,
    form: Format,
    devices: list[UUID] | None,
    profile: str | None,
    site: str | None,
    start: datetime,
    end: datetime,
    metrics: list[str] | None,
) -> AsyncIterator[bytes]:
    """Yield the file: a line per value, by device and time, sealed measurements included.

    Each page is a transaction of its own, so that a slow reader holds none open; rows that arrive
    meanwhile may be among what follows.
    """
    writer: _Writer = _Csv() if form == "csv" else _Parquet()
    wanted = None if metrics is None else frozenset(metrics)
    after: UUID | None = None
    while True:
        async with works() as work:
            page = await telemetry.latest_of(
                work.session,
                devices=devices,
                profile=profile,
                site=site,
                after=after,
                limit=_DEVICES,
            )
        if not page:
            break
        for device_id in page:
            seen: tuple[datetime, int] | None = None
            while True:
                async with works() as work:
                    rows = await telemetry_rows.messages(
                        work.session,
                        device_id,
                        start=start,
                        until=end,
                        limit=_ROWS,
                        metrics=metrics,
                        after=seen,
                    )
                if ready := writer.write(_lines(device_id, rows, wanted)):
                    yield ready
                if len(rows) < _ROWS:
                    break
                seen = rows[-1].time, rows[-1].metrics_id
            after = device_id
    yield writer.close()


def _lines(device_id: UUID, messages: list[Message], wanted: frozenset[str] | None) -> list[Line]:
    device = str(device_id)
    return [
        (
            message.time,
            device,
            name,
            value,
            _GOOD if message.quality is None else message.quality[place],
        )
        for message in messages
        for place, (name, value) in enumerate(zip(message.names, message.values, strict=True))
        if wanted is None or name in wanted
    ]


class _Csv:
    def __init__(self) -> None:
        self._text = io.StringIO()
        self._csv = csv.writer(self._text)
        self._csv.writerow(COLUMNS)

    def write(self, lines: list[Line]) -> bytes:
        self._csv.writerows((line[0].isoformat(), *line[1:]) for line in lines)
        ready = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return ready

    def close(self) -> bytes:
        return self.write([])


class _Sink(io.RawIOBase):
    """A file that only goes forward; its bytes are taken away as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        ready = b"".join(self._parts)
        self._parts.clear()
        return ready


class _Parquet:
    """A row group per page, or per several when they are small: readers want them large."""

    _GROUP: Final = 50_000

    def __init__(self) -> None:
        # Imported by who needs it: it takes a second and 50 MB.
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._arrow = pa
        self._schema = pa.schema(
            [
                ("time", pa.timestamp("us", tz="UTC")),
                ("device_id", pa.string()),
                ("metric", pa.string()),
                ("value", pa.float64()),
                ("quality", pa.int16()),
            ]
        )
        self._sink = _Sink()
        self._file = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._lines: list[Line] = []

    def write(self, lines: list[Line]) -> bytes:
        self._lines += lines
        if len(self._lines) >= self._GROUP:
            self._flush()
        return self._sink.take()

    def close(self) -> bytes:
        self._flush()
        self._file.close()
        return self._sink.take()

    def _flush(self) -> None:
        if self._lines:
            columns = [list(column) for column in zip(*self._lines, strict=True)]
            self._file.write_table(self._arrow.table(columns, schema=self._schema))
            self._lines = []
