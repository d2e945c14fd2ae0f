"""What models read and what they answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.repositories import telemetry_rows
from core.db.repositories.telemetry_rows import Message
from core.db.tables import Device, DeviceEvent, DeviceProfile, Prediction

_MOMENT: Final = timedelta(microseconds=1)


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
    start = telemetry_rows.EARLIEST if since is None else since + _MOMENT
    end = telemetry_rows.LATEST if until is None else until + _MOMENT
    newest = await telemetry_rows.messages(
        session, device_id, start=start, until=end, limit=recent, newest=True
    )
    newest.reverse()
    if len(newest) < recent:
        oldest, total = newest[:first], len(newest)
    else:
        oldest = await telemetry_rows.messages(
            session, device_id, start=start, until=end, limit=first
        )
        total = await telemetry_rows.count(
            session, device_id, start=start, until=end, limit=count_limit
        )
    names = {message.metrics_id: message.names for message in (*oldest, *newest)}
    return Stretch(names, _cycles(oldest), _cycles(newest), max(total, len(newest)))


def _cycles(messages: Sequence[Message]) -> list[Cycle]:
    return [Cycle(message.time, message.metrics_id, message.values) for message in messages]


async def add_predictions(session: AsyncSession, predictions: Sequence[Prediction]) -> None:
    """Store what a model answered."""
    session.add_all(predictions)
    await session.flush()
