"""Applying storage policies: deleting what is kept no longer, sealing what is old."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.resources import Resources
from core.db.repositories import sealing, storage
from core.db.session import Database
from core.db.tables import StoragePolicy
from core.temporal.activity_names import StorageActivity
from core.temporal.storage_contracts import StorageDone, TenantStorageInput

_log = structlog.get_logger(__name__)

_PAGE: Final = 200  # devices
_DAYS: Final = 400  # of one device that are sealed in one run
_BUSY: Final = "55P03"  # lock_not_available
_PATIENCE: Final = 600.0  # seconds that a day of a device may take

_Part = TypeVar("_Part")


class StorageActivities:
    """The storage family. Works as the owner of the tables, for one tenant at a time.

    A device and day, or a device and stretch, is one transaction: bounded, and as a whole or not.
    """

    def __init__(self, resources: Resources, database: Database | None = None) -> None:
        # The owner's pool opens with its first use, in the process that has this queue.
        self._database = database or Database.connect(
            resources.settings, "owner", statement_timeout=_PATIENCE
        )

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return its bound activity methods."""
        return (self.tenants, self.apply, self.reclaim)

    @activity.defn(name=StorageActivity.TENANTS)
    async def tenants(self) -> list[UUID]:
        """Return every tenant."""
        async with self._database.transaction(None) as session:
            return await storage.tenants(session)

    @activity.defn(name=StorageActivity.APPLY)
    async def apply(self, call: TenantStorageInput) -> StorageDone:
        """Apply a tenant's policy to each of its devices, from the last heartbeat on."""
        details = activity.info().heartbeat_details
        done = StorageDone.model_validate(details[0]) if details else StorageDone()
        after = UUID(details[1]) if details else None
        now = datetime.now(UTC)
        async with self._database.transaction(None) as session:
            policy = await storage.policy(session, call.tenant_id)

        def beat() -> None:
            if after is not None:
                activity.heartbeat(done.model_dump(), str(after))
            else:
                activity.heartbeat()

        while True:
            async with self._database.transaction(None) as session:
                devices = await storage.devices(session, call.tenant_id, after, _PAGE)
            if not devices:
                return done.plus(StorageDone(tenants=1))
            for device_id in devices:
                done = done.plus(await self._device(device_id, policy, now, beat))
                after = device_id
                beat()

    @activity.defn(name=StorageActivity.RECLAIM)
    async def reclaim(self) -> StorageDone:
        """Drop partitions that nobody keeps, and empty those of which all is sealed."""
        now = datetime.now(UTC)
        count = 0
        async with self._database.transaction(None) as session:
            past = await storage.past_partitions(session, now)
            days = await storage.partitions(session, "telemetry")
        for name in past:
            count += await self._unless_busy(name, storage.drop_partition)
            activity.heartbeat()
        for name, day in days:
            # Today's and yesterday's are being written.
            if name not in past and (now.date() - day).days > 1:
                count += await self._unless_busy(day, sealing.reclaim)
                activity.heartbeat()
        return StorageDone(partitions=count)

    async def _unless_busy(
        self, what: _Part, work: Callable[[AsyncSession, _Part], Awaitable[bool]]
    ) -> int:
        """Do something that needs a table alone; next time, if it cannot have it."""
        try:
            async with self._database.transaction(None) as session:
                return int(await work(session, what))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _BUSY:
                raise
            _log.info("partition_busy", partition=str(what))
            return 0

    async def _device(
        self, device_id: UUID, policy: StoragePolicy, now: datetime, beat: Callable[[], None]
    ) -> StorageDone:
        expired = rows = 0
        more = True
        while more:
            async with self._database.transaction(None) as session:
                more = await storage.expire_some(session, device_id, policy, now)
            expired += more
            beat()
        before = storage.cutoff(now, policy.seal_after_days)
        if before is not None:
            async with self._database.transaction(None) as session:
                days = await sealing.unsealed_days(session, device_id, before, _DAYS)
            for day in days:
                async with self._database.transaction(None) as session:
                    rows += (await sealing.seal_day(session, device_id, day)).rows
                beat()
        return StorageDone(devices=1, expired=expired, sealed_rows=rows)
