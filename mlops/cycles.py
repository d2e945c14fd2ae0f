"""Reads a life of a device from the database: the one way, for training and for serving."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from core.db.repositories import analytics
from core.db.repositories.analytics import Cycle, Stretch
from mlops.features import BASELINE, History
from mlops.features.rolling import FloatArray
from mlops.features.spec import AGE_LIMIT

OVERHAUL: Final = "overhaul"
"""Device event after which a device counts as new, without having failed."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A life as far as it was read, and the times of its recent cycles."""

    history: History
    times: list[datetime]


def _matrix(cycles: list[Cycle], lists: dict[int, list[str]], place: dict[str, int]) -> FloatArray:
    x = np.full((len(cycles), len(place)), np.nan)
    columns = {number: [place[name] for name in names] for number, names in lists.items()}
    for row, cycle in enumerate(cycles):
        x[row, columns[cycle.metrics_id]] = np.array(cycle.values, dtype=np.float64)
    return x


def _history(stretch: Stretch) -> History:
    metrics = tuple(dict.fromkeys(name for names in stretch.metrics.values() for name in names))
    place = {name: index for index, name in enumerate(metrics)}
    return History(
        metrics=metrics,
        first=_matrix(stretch.first, stretch.metrics, place),
        recent=_matrix(stretch.recent, stretch.metrics, place),
        total=stretch.total,
    )


async def observe(
    session: AsyncSession,
    device_id: UUID,
    *,
    recent: int,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Observed:
    """Read the first and the newest cycles of the stretch after `since` up to `until`.

    A cycle is one telemetry message. The read is bounded: `BASELINE` + `recent` messages, and a
    count that stops at the age beyond which it makes no difference.
    """
    stretch = await analytics.stretch(
        session,
        device_id,
        since=since,
        until=until,
        first=BASELINE,
        recent=recent,
        # Beyond the longest read by more than the baseline, so that a gap stays visible as one.
        count_limit=AGE_LIMIT + 2 * BASELINE,
    )
    return Observed(_history(stretch), [cycle.time for cycle in stretch.recent])
