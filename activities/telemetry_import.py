"""Importing files of measurements: batch by batch, each a transaction with its counts.

Exactly once: rows, counts, refused rows and how far the import is are committed together, and a
batch is only committed if nobody has come further meanwhile. A worker that is killed loses the
batch under way, whose rows are then read again.

Past measurements fire no trigger unless that is asked for; then they go through the broker, where
triggers live, as messages that come over HTTP do.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.resources import Resources
from core import topics
from core.db.repositories import device_names, history_import, imports
from core.db.repositories.history_import import PastMessage
from core.db.session import Database
from core.db.tables import TelemetryImport
from core.imports.files import Batch, FileFormat, batches, file_of
from core.imports.mapping import ImportMapping
from core.imports.rows import Measured, Refusal, RowReader, refusal, unknown_device
from core.intake import IntakeClient, Message
from core.limits import MAX_LISTS
from core.temporal.activity_names import ImportActivity
from core.temporal.import_contracts import ImportEnd, ImportInput, ImportResult

BATCH: Final = 5_000
"""Rows of one transaction."""
_KNOWN: Final = 50_000
"""Devices that are remembered by their name."""
_HANDED: Final = 4 * 1024 * 1024
"""Bytes of the payloads that are handed to the broker at once."""
_BEAT: Final = 2.0  # seconds
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Found = tuple[UUID, Measured]


class OvertakenError(Exception):
    """Another attempt of this import has come further, or it was cancelled."""


class ImportActivities:
    """Activities of the workflow `TelemetryImport`."""

    def __init__(self, resources: Resources) -> None:
        self._settings = resources.settings
        self._database = resources.database
        self._intake = IntakeClient(resources.settings, resources.http)

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return the bound activity methods."""
        return (self.store, self.close)

    @activity.defn(name=ImportActivity.STORE)
    async def store(self, call: ImportInput) -> None:
        """Store the rows that are not dealt with yet; beats with the number of the last one."""
        async with self._database.transaction(call.tenant_id) as session:
            row = await imports.get(session, call.import_id)
        if row is None or row.status != "running":
            return
        path = file_of(self._settings.imports, row.id, row.format)
        if not path.exists():
            raise ApplicationError(
                "the uploaded file is gone", type="file_gone", non_retryable=True
            )
        ingest = Database.connect(self._settings, "ingest")
        try:
            job = _Job(row, path, self._database, ingest, self._intake)
            async with asyncio.TaskGroup() as tasks:
                beating = tasks.create_task(job.beat())
                await job.run()
                beating.cancel()
        finally:
            await ingest.close()

    @activity.defn(name=ImportActivity.CLOSE)
    async def close(self, end: ImportEnd) -> ImportResult:
        """Write down how the import ended, and drop its file."""
        async with self._database.transaction(end.tenant_id) as session:
            row = await imports.close(session, end.import_id, end.status, end.error)
        if row is None:
            return ImportResult(status="deleted")
        path = file_of(self._settings.imports, row.id, row.format)
        await asyncio.to_thread(path.unlink, missing_ok=True)
        return ImportResult(
            status=row.status,
            rows_read=row.rows_read,
            stored=row.stored,
            duplicates=row.duplicates,
            refused=row.refused,
        )


class _Job:
    """One attempt at one import."""

    def __init__(
        self,
        row: TelemetryImport,
        path: Path,
        database: Database,
        ingest: Database,
        intake: IntakeClient,
    ) -> None:
        self._row = row
        self._tenant_id = row.tenant_id
        self._mapping = ImportMapping.model_validate(row.mapping)
        self._reader = RowReader(self._mapping, row.columns)
        kind: FileFormat = "csv" if row.format == "csv" else "parquet"
        self._batches: Iterator[Batch] = batches(path, kind, after=row.rows_read, size=BATCH)
        self._database = database
        self._ingest = ingest
        self._intake = intake
        self._known: OrderedDict[str, UUID] = OrderedDict()
        self._lists: dict[tuple[str, ...], int] = {}
        self._days: set[date] = set()
        self._done = row.rows_read

    async def beat(self) -> None:
        """Tell Temporal how far it is, until cancelled."""
        while True:
            activity.heartbeat({"row": self._done})
            await asyncio.sleep(_BEAT)

    async def run(self) -> None:
        """Deal with batch after batch."""
        while (batch := await asyncio.to_thread(next, self._batches, None)) is not None:
            measured, refused = await asyncio.to_thread(self._read, batch)
            found = await self._resolve(measured, refused)
            try:
                await self._commit(batch, found, refused)
            except OvertakenError:
                await self._overtaken()
                return
            self._done = batch.rows[-1].number

    async def _overtaken(self) -> None:
        """Go on elsewhere when the import still runs: another attempt has come further.

        Raises:
            ApplicationError: It does; the next attempt begins where that one is.
        """
        async with self._database.transaction(self._tenant_id) as session:
            row = await imports.get(session, self._row.id)
        if row is not None and row.status == "running":
            raise ApplicationError("another attempt has come further", type="overtaken")

    def _read(self, batch: Batch) -> tuple[list[Measured], list[Refusal]]:
        now = time.time_ns() // 1000
        measured: list[Measured] = []
        refused: list[Refusal] = []
        for row in batch.rows:
            one = self._reader.read(row, now)
            if isinstance(one, Measured):
                measured.append(one)
            else:
                refused.append(one)
        return measured, refused

    async def _resolve(self, measured: list[Measured], refused: list[Refusal]) -> list[_Found]:
        """Return the measurements with their devices; refuse those of unknown ones."""
        mapping = self._mapping
        if mapping.device_column is None:
            assert mapping.device_id is not None
            return [(mapping.device_id, one) for one in measured]
        wanted = {one.device for one in measured if one.device is not None}
        found = {name: self._known[name] for name in wanted & self._known.keys()}
        missing = wanted - found.keys()
        if missing:
            async with self._database.transaction(self._tenant_id) as session:
                found |= await device_names.by(session, mapping.device_by, missing)
            self._known.update(found)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        known: list[_Found] = []
        for one in measured:
            device_id = found.get(one.device or "")
            if device_id is None:
                refused.append(unknown_device(one, mapping.device_column))
            else:
                known.append((device_id, one))
        return known

    async def _commit(self, batch: Batch, found: list[_Found], refused: list[Refusal]) -> None:
        stored = duplicates = 0
        if self._row.fire_triggers:
            stored = await self._hand_over(found, refused)
        async with self._ingest.transaction(None) as session:
            if not self._row.fire_triggers:
                messages = await self._messages(session, found, refused)
                if messages:
                    stored = await history_import.copy_messages(session, self._tenant_id, messages)
                duplicates = len(messages) - stored
            refused.sort(key=lambda one: one.row)
            await imports.add_refusals(session, self._tenant_id, self._row.id, refused)
            if not await imports.advance(
                session,
                self._tenant_id,
                self._row.id,
                since=self._done,
                until=batch.rows[-1].number,
                stored=stored,
                duplicates=duplicates,
                refused=len(refused),
                fraction=batch.fraction,
            ):
                raise OvertakenError

    async def _messages(
        self, session: AsyncSession, found: list[_Found], refused: list[Refusal]
    ) -> list[PastMessage]:
        messages: list[PastMessage] = []
        for device_id, one in found:
            number = await self._list(session, one.names)
            if number is None:
                refused.append(
                    refusal(
                        one.row,
                        self._mapping.metric_column or "",
                        "too_many_lists",
                        f"the tenant has {MAX_LISTS} combinations of metrics already",
                    )
                )
                continue
            messages.append(PastMessage(device_id, _instant(one), number, one.values))
        days = {message.time.date() for message in messages} - self._days
        if days:
            await history_import.ensure_partitions(session, days)
            self._days |= days
        return messages

    async def _list(self, session: AsyncSession, names: tuple[str, ...]) -> int | None:
        """Return the number of a metric list; None when the tenant has too many."""
        known = self._lists.get(names)
        if known is None:
            if await history_import.count_lists(session, self._tenant_id) >= MAX_LISTS:
                return None
            known = await history_import.metric_list(session, self._tenant_id, names)
            self._lists[names] = known
        return known

    async def _hand_over(self, found: list[_Found], refused: list[Refusal]) -> int:
        """Let the broker store measurements; return how many it took, known ones included.

        Raises:
            UnavailableError: It cannot now.
        """
        taken = 0
        for part in _parts(found):
            outcomes = await self._intake.deliver(
                self._tenant_id, [message for _, message in part], bury=False
            )
            for (one, _), outcome in zip(part, outcomes, strict=True):
                if outcome.stored:
                    taken += 1
                else:
                    refused.append(refusal(one.row, "", outcome.code, outcome.message))
        return taken


def _parts(found: list[_Found]) -> Iterator[list[tuple[Measured, Message]]]:
    part: list[tuple[Measured, Message]] = []
    size = 0
    for device_id, one in found:
        values = dict(zip(one.names, one.values, strict=True))
        payload = msgspec.json.encode({"ts": _instant(one).isoformat(), "values": values})
        part.append((one, Message(device_id, topics.telemetry(device_id), payload)))
        size += len(payload)
        if size > _HANDED:
            yield part
            part, size = [], 0
    if part:
        yield part


def _instant(one: Measured) -> datetime:
    return _EPOCH + timedelta(microseconds=one.time)
