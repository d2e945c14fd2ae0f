"""Freezes telemetry for a training: one device in memory at a time, parquet on disk."""

import asyncio
import shutil
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from core.db.repositories import analytics
from core.db.repositories.analytics import LifeEvent
from core.db.session import Database
from core.errors import NotFoundError
from core.settings import Settings
from core.temporal.contracts import TrainingInput
from core.temporal.training_contracts import DatasetRef
from mlops.cycles import OVERHAUL, observe
from mlops.errors import NotEnoughDataError
from mlops.features import BASELINE
from mlops.files import fresh_folder, publish
from mlops.training.lives import MAX_CYCLES, Life, SnapshotWriter
from mlops.training.split import MIN_DEVICES

MIN_LIFE: Final = 2 * BASELINE
"""Cycles below which a life says nothing about wear."""


async def freeze(
    settings: Settings,
    database: Database,
    training: TrainingInput,
    beat: Callable[[dict[str, Any]], None],
) -> DatasetRef:
    """Copy every life that ended in a failure into a folder of its own.

    A device that failed several times has several lives, each from the failure before, or from an
    overhaul since, to its own.

    Raises:
        NotEnoughDataError: Too few devices have failed.
        NotFoundError: There is no such profile.
    """
    final = settings.artifacts / "datasets" / str(training.training_id)
    async with database.transaction(training.tenant_id) as session:
        if await analytics.profile(session, training.profile_id) is None:
            raise NotFoundError(f"there is no device profile {training.profile_id}")
        events = await analytics.life_events(
            session, training.profile_id, [training.failure_event, OVERHAUL]
        )
    failures = {
        device_id: happened
        for device_id, happened in events.items()
        if any(event.name == training.failure_event for event in happened)
    }
    if len(failures) < MIN_DEVICES:
        raise NotEnoughDataError(
            f"{len(failures)} devices of this profile have an event named "
            f"'{training.failure_event}'; training needs at least {MIN_DEVICES}"
        )
    folder = await asyncio.to_thread(fresh_folder, final)
    try:
        writer = SnapshotWriter(folder)
        for number, (device_id, happened) in enumerate(failures.items(), 1):
            await _freeze_device(database, training, device_id, happened, writer)
            beat({"devices": number, "of": len(failures)})
        if writer.devices < MIN_DEVICES or writer.started is None or writer.ended is None:
            raise NotEnoughDataError(
                f"{writer.devices} devices have at least {MIN_LIFE} measurements before their "
                f"failure; training needs at least {MIN_DEVICES}"
            )
        sha256 = await asyncio.to_thread(writer.finish)
        await asyncio.to_thread(publish, folder, final)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return DatasetRef(
        path=final.relative_to(settings.artifacts).as_posix(),
        sha256=sha256,
        rows=writer.rows,
        devices=writer.devices,
        lives=writer.lives,
        started=writer.started,
        ended=writer.ended,
    )


async def _freeze_device(
    database: Database,
    training: TrainingInput,
    device_id: UUID,
    events: list[LifeEvent],
    writer: SnapshotWriter,
) -> None:
    since: datetime | None = None
    for number, event in enumerate(events):
        # A life that ended with an overhaul tells of no failure.
        if event.name == training.failure_event:
            async with database.transaction(training.tenant_id) as session:
                observed = await observe(
                    session, device_id, recent=MAX_CYCLES, since=since, until=event.time
                )
            if observed.history.total >= MIN_LIFE:
                life = Life(device_id, number, observed.history)
                # The first of the recent cycles stands for the start: the figure is for people.
                await asyncio.to_thread(writer.add, life, observed.times[0], observed.times[-1])
        since = event.time
