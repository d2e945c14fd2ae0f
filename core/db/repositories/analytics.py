"""What models read and what they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import Device, DeviceEvent, DeviceProfile, MetricList, Prediction


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """A device and what its profile says about prediction."""

    id: UUID
    name: str
    profile_name: str
    configuration: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LifeEvent:
    """An event that ends a life of a device."""

    time: datetime
    name: str


@dataclass(frozen=True, slots=True)
class Cycle:
    """One message of a device; `metrics_id` names the list that its values follow."""

    time: datetime
    metrics_id: int
    values: list[float | None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The messages of one stretch of time that features need.

    Attributes:
        metrics: Metric names by metrics_id, for every list that occurs.
        first: The oldest messages, in time order.
        recent: The newest messages, in time order.
        total: All messages of the stretch, counted up to a limit.
    """

    metrics: dict[int, list[str]]
    first: list[Cycle]
    recent: list[Cycle]
    total: int


# "infinity" bounds let the primary key (device_id, time, metrics_id) answer all three.
_CYCLES = """
    SELECT time, metrics_id, values FROM telemetry
    WHERE device_id = :device_id
      AND time > coalesce(CAST(:since AS timestamptz), '-infinity')
      AND time <= coalesce(CAST(:until AS timestamptz), 'infinity')
"""
_FIRST = sa.text(f"{_CYCLES} ORDER BY time, metrics_id LIMIT :limit")
_RECENT = sa.text(f"{_CYCLES} ORDER BY time DESC, metrics_id DESC LIMIT :limit")
_COUNT = sa.text(f"SELECT count(*) FROM ({_CYCLES} LIMIT :limit) AS counted")  # noqa: S608 # constant


async def profile(session: AsyncSession, profile_id: UUID) -> DeviceProfile | None:
    """Return a device profile of the transaction's tenant."""
    return await session.get(DeviceProfile, profile_id)


async def device_context(session: AsyncSession, device_id: UUID) -> DeviceContext | None:
    """Return a device of the transaction's tenant."""
    row = (
        await session.execute(
            select(Device.id, Device.name, DeviceProfile.name, DeviceProfile.configuration)
            .join(DeviceProfile, col(DeviceProfile.id) == col(Device.profile_id))
            .where(Device.id == device_id)
        )
    ).first()
    return None if row is None else DeviceContext(*row)


async def life_events(
    session: AsyncSession, profile_id: UUID, names: Sequence[str]
) -> dict[UUID, list[LifeEvent]]:
    """Return the events of these names by device of a profile, ascending in time."""
    rows = await session.execute(
        select(DeviceEvent.device_id, DeviceEvent.time, DeviceEvent.name)
        .join(Device, col(Device.id) == col(DeviceEvent.device_id))
        .where(Device.profile_id == profile_id, col(DeviceEvent.name).in_(names))
        .order_by(col(DeviceEvent.device_id), col(DeviceEvent.time))
    )
    found: dict[UUID, list[LifeEvent]] = {}
    for device_id, time, name in rows:
        if time is not None:
            found.setdefault(device_id, []).append(LifeEvent(time, name))
    return found


async def last_event(
    session: AsyncSession, device_id: UUID, names: Sequence[str]
) -> datetime | None:
    """Return when an event of one of these names happened to a device last."""
    return await session.scalar(
        select(sa.func.max(DeviceEvent.time)).where(
            DeviceEvent.device_id == device_id, col(DeviceEvent.name).in_(names)
        )
    )


async def stretch(
    session: AsyncSession,
    device_id: UUID,
    *,
    since: datetime | None,
    until: datetime | None,
    first: int,
    recent: int,
    count_limit: int,
) -> Stretch:
    """Return the messages after `since` up to and including `until`; None is unbounded.

    Args:
        session: The running transaction.
        device_id: The device.
        since: Last instant that does not belong.
        until: Last instant that belongs.
        first: Oldest messages to return at most.
        recent: Newest messages to return at most.
        count_limit: Counting stops here, so that a device with years of data costs no scan.
    """
    bounds = {"device_id": device_id, "since": since, "until": until}
    newest = [Cycle(*row) for row in await session.execute(_RECENT, {**bounds, "limit": recent})]
    newest.reverse()
    if len(newest) < recent:
        oldest, total = newest[:first], len(newest)
    else:
        oldest = [Cycle(*row) for row in await session.execute(_FIRST, {**bounds, "limit": first})]
        total = await session.scalar(_COUNT, {**bounds, "limit": count_limit}) or 0
    lists = await session.execute(
        select(MetricList.id, MetricList.names).where(
            col(MetricList.id).in_({cycle.metrics_id for cycle in (*oldest, *newest)})
        )
    )
    names = {number: list(metrics) for number, metrics in lists if number is not None}
    return Stretch(names, oldest, newest, max(total, len(newest)))


async def add_predictions(session: AsyncSession, predictions: Sequence[Prediction]) -> None:
    """Store what a model answered."""
    session.add_all(predictions)
    await session.flush()
