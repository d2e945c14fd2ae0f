"""The newest values of devices, written about once a second instead of with every message."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Device
from broker.ingest.batching import Point
from core.db.repositories.ingest import LatestRow, instant, upsert_latest

_log = structlog.get_logger(__name__)

_PERIOD: Final = 1.0  # seconds


class LatestValues:
    """Newest committed values per device and metric list, until they are written.

    Bounded by the number of devices and metric lists, however long the database is down.
    """

    def __init__(self, database: IngestDatabase) -> None:
        self._database = database
        self._newest: dict[tuple[UUID, int], tuple[int, UUID, list[float | None]]] = {}

    def note(self, device: Device, points: list[Point]) -> None:
        """Remember committed points."""
        newest: dict[int, Point] = {}
        for point in points:
            known = newest.get(point[2].metrics_id)
            if known is None or point[0] >= known[0]:
                newest[point[2].metrics_id] = point
        for metrics_id, (at, values, *_) in newest.items():
            key = (device.id, metrics_id)
            seen = self._newest.get(key)
            if seen is None or at >= seen[0]:
                self._newest[key] = (at, device.tenant_id, list(values.values()))

    async def run(self) -> None:
        """Write once a period until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            try:
                await self.flush()
            except OUTAGE as error:
                _log.warning("latest values wait for the database", reason=repr(error))

    async def flush(self) -> None:
        """Write what is new; kept for the next time if that fails."""
        taken, self._newest = self._newest, {}
        if not taken:
            return
        rows = [
            LatestRow(device_id, metrics_id, tenant_id, instant(at), values)
            for (device_id, metrics_id), (at, tenant_id, values) in sorted(
                taken.items(), key=lambda item: item[0]
            )
        ]
        try:
            async with self._database.transaction() as connection:
                await upsert_latest(connection, rows)
        except BaseException:
            for key, value in taken.items():
                if key not in self._newest or self._newest[key][0] < value[0]:
                    self._newest[key] = value
            raise
