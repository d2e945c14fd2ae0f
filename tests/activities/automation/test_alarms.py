"""The step `alarm`."""

from uuid import UUID, uuid4

import pytest
from sqlmodel import col, select
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.automation.alarms import AlarmActivities
from activities.resources import Resources
from core.db.session import Database
from core.db.tables import AlertInstance
from tests.activities.automation.conftest import step_call
from tests.support.tenants import MadeDevice, make_tenant


async def instances(database: Database, tenant_id: UUID) -> list[AlertInstance]:
    async with database.transaction(tenant_id) as session:
        rows = await session.execute(
            select(AlertInstance)
            .where(col(AlertInstance.tenant_id) == tenant_id)
            .order_by(col(AlertInstance.raised_at))
        )
        return list(rows.scalars())


async def test_a_step_that_is_repeated_raises_once_and_another_counts(
    owner: Database, resources: Resources, tenant_id: UUID, device: MadeDevice
) -> None:
    alarm = AlarmActivities(resources).alarm
    first = step_call(tenant_id, {"name": "hot", "message": "one"}, device.id)
    second = step_call(
        tenant_id, {"name": "hot", "message": "two", "severity": "critical"}, device.id
    )
    for call in (first, first, second, second, second):
        done = await ActivityEnvironment().run(alarm, call)
    assert done.output["count"] == 2
    (instance,) = await instances(owner, tenant_id)
    assert (instance.count, instance.severity, instance.message) == (2, "critical", "two")
    assert instance.source_key == first.key
    assert instance.device_id == device.id


async def test_clearing_ends_what_is_open_and_a_later_raise_is_a_new_alarm(
    owner: Database, resources: Resources, tenant_id: UUID, device: MadeDevice
) -> None:
    alarm = AlarmActivities(resources).alarm
    clear = {"action": "clear", "name": "hot"}
    run = ActivityEnvironment().run
    raised = step_call(tenant_id, {"name": "hot"}, device.id)
    await run(alarm, raised)
    other = step_call(tenant_id, {"name": "hot"}, None)
    await run(alarm, other)
    assert (await run(alarm, step_call(tenant_id, clear, device.id))).output == {"cleared": 1}
    assert (await run(alarm, step_call(tenant_id, clear, device.id))).output == {"cleared": 0}
    assert (await run(alarm, raised)).output["status"] == "cleared"
    await run(alarm, step_call(tenant_id, {"name": "hot"}, device.id))
    found = await instances(owner, tenant_id)
    assert sorted(item.status for item in found) == ["cleared", "raised", "raised"]


async def test_a_device_of_another_tenant_is_refused_for_good(
    owner: Database, resources: Resources, device: MadeDevice
) -> None:
    stranger = await make_tenant(owner)
    call = step_call(stranger, {"name": "hot"}, device.id)
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(AlarmActivities(resources).alarm, call)
    assert (caught.value.type, caught.value.non_retryable) == ("not_found", True)
    assert await instances(owner, stranger) == []


async def test_a_value_that_cannot_be_stored_fails_for_good(
    resources: Resources, tenant_id: UUID
) -> None:
    call = step_call(tenant_id, {"name": "hot", "message": "a\x00b"}, None, key=f"k{uuid4()}")
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(AlarmActivities(resources).alarm, call)
    assert caught.value.non_retryable
