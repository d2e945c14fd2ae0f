"""Effects of automations on real servers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from activities.resources import Resources
from core.db.session import Database
from core.settings import Settings
from core.temporal.steps import StepCall
from tests.support.durable import opened_resources
from tests.support.tenants import MadeDevice, make_device, make_profile


@pytest.fixture
async def resources(
    settings: Settings, worker_database: Database, bus: Redis
) -> AsyncIterator[Resources]:
    """What activities work with."""
    async with opened_resources(settings, worker_database, bus) as opened:
        yield opened


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    """A device of the tenant."""
    return await make_device(owner, tenant_id, await make_profile(owner, tenant_id))


def step_call(
    tenant_id: UUID, parameters: dict[str, Any], device_id: UUID | None = None, key: str = ""
) -> StepCall:
    """Return the call of one step."""
    return StepCall(
        tenant_id=tenant_id,
        execution_id=uuid4(),
        key=key or f"run:{uuid4()}/step/0",
        device_id=device_id,
        parameters=parameters,
    )


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
