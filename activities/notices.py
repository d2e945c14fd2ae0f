"""Notices to people's dashboards."""

from typing import Any
from uuid import UUID

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core import bus

_log = structlog.get_logger(__name__)


async def tell_dashboard(valkey: Redis, tenant_id: UUID, kind: str, **fields: Any) -> None:
    """Publish an event of one tenant, after the commit that it tells of.

    A notice that cannot be sent is logged and lost: what it tells of is in the database, and
    failing here would repeat work that is done.
    """
    event = msgspec.json.encode({"type": kind, **fields})
    try:
        await valkey.publish(bus.dashboard(tenant_id), event)
    except RedisError as error:
        _log.warning("notice_lost", kind=kind, tenant_id=str(tenant_id), error=str(error))
