"""Who a device is that signs in at another broker: asked before there is a tenant."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession


class KnownDevice(NamedTuple):
    """The device of a key.

    Attributes:
        usable: The key is not revoked, the device in service, and its tenant active.
        expires_at: When the key ends.
    """

    device_id: UUID
    usable: bool
    expires_at: datetime | None


async def device_of_key(session: AsyncSession, digest: bytes) -> KnownDevice | None:
    """Return the device that a key belongs to, of whatever tenant."""
    found = await session.execute(
        sa.text("SELECT device_id, usable, expires_at FROM auth_device_by_key(:digest)"),
        {"digest": digest},
    )
    row = found.first()
    return None if row is None else KnownDevice(*row)
