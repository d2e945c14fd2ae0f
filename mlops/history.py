"""Brings the history of devices into the platform, so that models can be trained at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from core.db.repositories import history_import
from core.db.repositories.history_import import PastEvent, PastMessage
from core.db.session import Database
from core.errors import ConflictError, InvalidInputError
from core.settings import Settings
from core.temporal.names import stable_uuid

CYCLE: Final = timedelta(hours=1)
"""Time between two cycles of an imported history."""

_BATCH: Final = 10
"""Devices a transaction."""


@dataclass(frozen=True, slots=True)
class HistoricalDevice:
    """A device of the past.

    Attributes:
        name: Unique among the devices in service; one of this name and profile is filled up.
        metrics: Names of the columns of `cycles`.
        cycles: Cycles x metrics in time order; NaN where nothing was measured.
        failed: The last cycle was the failure. Such a device is decommissioned.
        labels: The device's metadata.
    """

    name: str
    metrics: tuple[str, ...]
    cycles: NDArray[np.float64]
    failed: bool = True
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ImportProgress:
    """How far an import is.

    Attributes:
        devices: Devices looked at.
        added: Devices whose history was stored by this import.
        messages: Messages stored by this import.
    """

    devices: int = 0
    added: int = 0
    messages: int = 0


async def import_history(
    settings: Settings,
    tenant_id: UUID,
    profile_id: UUID,
    devices: Iterable[HistoricalDevice],
    progress: Callable[[ImportProgress], None] = lambda progress: None,
    *,
    ending_at: datetime | None = None,
    failure_event: str = "failure",
) -> ImportProgress:
    """Create devices with their telemetry, one message a cycle, and their failure events.

    The last cycle of every device is at `ending_at`, the one before an hour earlier. Devices are
    stored in batches, each whole or not at all. A device that has its failure event, or for one
    without failure the messages themselves, is not imported again, so a second run adds nothing;
    for that, devices without a failure need the same `ending_at`.

    Args:
        settings: Addresses of the database.
        tenant_id: The tenant.
        profile_id: Profile of the devices.
        devices: The devices; read as needed.
        progress: Called after every batch.
        ending_at: Time of the last cycles; by default the start of the running hour.
        failure_event: Name of the event at the last cycle of a failed device.

    Returns:
        What was done in all.

    Raises:
        ConflictError: A device of another profile has the name of one that has not failed.
        InvalidInputError: A device has no cycles, or its columns do not match its metrics.
    """
    end = ending_at or datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    done = ImportProgress()
    worker = Database.connect(settings, "worker")
    ingest = Database.connect(settings, "ingest")
    try:
        for batch in _batches(devices):
            for device in batch:
                _check(device)
            missing = await _register(worker, tenant_id, profile_id, batch, failure_event, end)
            if missing:
                done.messages += await _store(ingest, tenant_id, missing, failure_event, end)
                done.added += len(missing)
            done.devices += len(batch)
            progress(done)
    finally:
        await worker.close()
        await ingest.close()
    return done


def _batches(devices: Iterable[HistoricalDevice]) -> Iterator[list[HistoricalDevice]]:
    source = iter(devices)
    while batch := list(islice(source, _BATCH)):
        yield batch


def _check(device: HistoricalDevice) -> None:
    if not len(device.cycles) or device.cycles.shape[1] != len(device.metrics):
        raise InvalidInputError(
            f"the history of {device.name} has the shape {device.cycles.shape}; "
            f"it needs at least one cycle and {len(device.metrics)} columns"
        )


async def _register(
    worker: Database,
    tenant_id: UUID,
    profile_id: UUID,
    batch: Sequence[HistoricalDevice],
    failure_event: str,
    end: datetime,
) -> list[tuple[UUID, HistoricalDevice]]:
    """Make the devices; return those whose history is not there yet."""
    rows = [
        {
            "id": stable_uuid(f"history:{tenant_id}:{profile_id}:{device.name}"),
            "tenant_id": tenant_id,
            "profile_id": profile_id,
            "name": device.name,
            "lifecycle": "decommissioned" if device.failed else "active",
            "labels": device.labels,
            "last_seen": end,
            "activated_at": end - CYCLE * (len(device.cycles) - 1),
        }
        for device in batch
    ]
    async with worker.transaction(tenant_id) as session:
        await history_import.add_devices(session, rows)
        found = await history_import.devices_by_name(
            session, [device.name for device in batch], [row["id"] for row in rows]
        )
        for name, (_, other) in found.items():
            if other != profile_id:
                raise ConflictError(f"a device of another profile has the name {name}")
        whole = await history_import.devices_with_event(
            session, [device_id for device_id, _ in found.values()], failure_event
        )
    pairs = [(found[device.name][0], device) for device in batch]
    return [(device_id, device) for device_id, device in pairs if device_id not in whole]


async def _store(
    ingest: Database,
    tenant_id: UUID,
    devices: Sequence[tuple[UUID, HistoricalDevice]],
    failure_event: str,
    end: datetime,
) -> int:
    longest = max(len(device.cycles) for _, device in devices)
    days = {(end - CYCLE * back).astimezone(UTC).date() for back in range(longest)}
    # Measurements and failure events are one transaction: the event says that all of it is there.
    async with ingest.transaction(tenant_id) as session:
        await history_import.ensure_partitions(session, days)
        lists = {
            metrics: await history_import.metric_list(session, tenant_id, metrics)
            for metrics in {device.metrics for _, device in devices}
        }
        messages = [
            PastMessage(
                device_id,
                end - CYCLE * (len(device.cycles) - 1 - number),
                lists[device.metrics],
                [None if np.isnan(value) else float(value) for value in row],
            )
            for device_id, device in devices
            for number, row in enumerate(device.cycles)
        ]
        stored = await history_import.copy_messages(session, tenant_id, messages)
        await history_import.add_events(
            session,
            tenant_id,
            [
                PastEvent(device_id, end, failure_event, {"cycles": len(device.cycles)})
                for device_id, device in devices
                if device.failed
            ],
        )
    return stored
