"""Counts what is stored, for those who must account for every message."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession


class Stored(NamedTuple):
    """Rows of telemetry and the values in them."""

    messages: int
    values: int


_STORED = sa.text(
    """
    SELECT count(*), coalesce(sum(cardinality(values)), 0)
    FROM unnest(:devices) AS d (id)
    CROSS JOIN LATERAL (
        SELECT values FROM telemetry
        WHERE device_id = d.id AND time >= :first AND time <= :last
        UNION ALL
        SELECT u.numbers
        FROM telemetry_sealed s
        CROSS JOIN LATERAL telemetry_unseal(s, :first, :last + INTERVAL '1 microsecond') u
        WHERE s.device_id = d.id AND s.first <= :last AND s.last >= :first
    ) AS t
    """
).bindparams(
    sa.bindparam("devices", type_=ARRAY(sa.Uuid)),
    sa.bindparam("first", type_=sa.DateTime(timezone=True)),
    sa.bindparam("last", type_=sa.DateTime(timezone=True)),
)


async def stored(
    session: AsyncSession, devices: Sequence[UUID], first: datetime, last: datetime
) -> Stored:
    """Count the messages of some devices between two instants, both included."""
    row = (
        await session.execute(_STORED, {"devices": list(devices), "first": first, "last": last})
    ).one()
    return Stored(row[0], row[1])
