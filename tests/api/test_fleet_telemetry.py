"""The newest values of many devices, and how long measurements are kept."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlmodel import col, select

from core.db.session import Database
from core.db.tables import AuditEntry, Device, LatestTelemetry, MetricList
from tests.api.conftest import Enter
from tests.support.tenants import make_device, make_profile, make_tenant

NOW = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
PATH = "/api/v1/telemetry/latest"
POLICY = "/api/v1/telemetry/policy"


@pytest.fixture
async def devices(owner: Database, tenant_id: UUID) -> list[UUID]:
    """Five devices by id; the last has sent nothing, the first two lists that share a metric."""
    sensor, pump = [await make_profile(owner, tenant_id, name) for name in ("sensor", "pump")]
    made = [
        await make_device(owner, tenant_id, pump if number == 1 else sensor) for number in range(5)
    ]
    ids = sorted(one.id for one in made)
    async with owner.transaction(tenant_id) as session:
        lists = [MetricList(tenant_id=tenant_id, names=names) for names in (["a", "b"], ["a"])]
        session.add_all(lists)
        await session.flush()
        for number, device_id in enumerate(ids[:4]):
            for index, metrics in enumerate(lists[: 2 if number == 0 else 1]):
                assert metrics.id is not None
                session.add(
                    LatestTelemetry(
                        device_id=device_id,
                        metrics_id=metrics.id,
                        tenant_id=tenant_id,
                        time=NOW + timedelta(seconds=index),
                        values=[float(number + 10 * index), None][: 2 - index],
                    )
                )
        (await session.get_one(Device, ids[2])).site = "north"
    return ids


async def _get(client: httpx.AsyncClient, **params: Any) -> dict[str, Any]:
    answer = await client.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_newest_value_of_each_metric_comes_in_pages(
    client: httpx.AsyncClient, devices: list[UUID]
) -> None:
    whole = await _get(client)
    assert [one["device_id"] for one in whole["devices"]] == [str(one) for one in devices]
    assert whole["next_after"] is None
    assert whole["devices"][0]["metrics"] == {
        "a": {"value": 10.0, "timestamp": "2026-03-01T10:00:01Z"},
        "b": {"value": None, "timestamp": "2026-03-01T10:00:00Z"},
    }
    assert whole["devices"][4]["metrics"] == {}
    pages: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = await _get(client, limit=2, **after)
        pages += page["devices"]
        if page["next_after"] is None:
            break
        after = {"after": page["next_after"]}
    assert pages == whole["devices"]


async def test_devices_are_picked_by_id_profile_and_site(
    client: httpx.AsyncClient, devices: list[UUID], enter: Enter, owner: Database
) -> None:
    some = await _get(client, device_ids=f"{devices[1]},{devices[3]}")
    assert [one["device_id"] for one in some["devices"]] == [str(devices[1]), str(devices[3])]
    assert len((await _get(client, profile="pump"))["devices"]) == 1
    north = await _get(client, site="north")
    assert [one["device_id"] for one in north["devices"]] == [str(devices[2])]
    assert (await client.get(PATH, params={"device_ids": "nonsense"})).status_code == 422
    stranger = await enter(await make_tenant(owner))
    assert (await _get(stranger.client, device_ids=str(devices[1])))["devices"] == []


async def test_a_policy_is_decided_audited_and_belongs_to_one_tenant(
    client: httpx.AsyncClient, enter: Enter, owner: Database, tenant_id: UUID
) -> None:
    default = (await client.get(POLICY)).json()
    assert default["raw_days"] is None
    assert default["seal_after_days"] == 7
    assert default["updated_at"] is None
    wanted = {"raw_days": 30, "minute_days": 60, "hour_days": 400, "seal_after_days": 3}
    for _ in range(2):
        put = await client.put(POLICY, json=wanted)
        assert put.status_code == 200, put.text
    stored = (await client.get(POLICY)).json()
    assert stored | wanted == stored
    assert stored["day_days"] is None
    async with owner.transaction(tenant_id) as session:
        entries = await session.scalars(
            select(AuditEntry).where(
                col(AuditEntry.tenant_id) == tenant_id, col(AuditEntry.action) == "telemetry.policy"
            )
        )
        assert len(list(entries)) == 2
    stranger = await enter(await make_tenant(owner))
    assert (await stranger.client.get(POLICY)).json() == default
    reader = await enter(tenant_id, "end_user")
    assert (await reader.client.get(POLICY)).status_code == 200
    assert (await reader.client.put(POLICY, json=wanted)).status_code == 403


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ({"raw_days": 0}, "/raw_days"),
        ({"seal_after_days": 1}, "/seal_after_days"),
        ({"raw_days": 30, "hour_days": 20}, "/raw_days"),
        ({"raw_days": 3, "day_days": 20}, "/hour_days"),
    ],
)
async def test_a_policy_that_contradicts_itself_is_refused(
    client: httpx.AsyncClient, form: dict[str, int], pointer: str
) -> None:
    answer = await client.put(POLICY, json=form)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
