"""Devices: their life, their list, their keys."""

from uuid import UUID, uuid4

import httpx
import pytest
from redis.asyncio import Redis
from sqlmodel import col, select

from core import bus as channels
from core.crypto import device_key_digest
from core.db.session import Database
from core.db.tables import (
    AuditEntry,
    Device,
    DeviceCredential,
    DeviceEvent,
    TriggerOutbox,
)
from core.temporal import names
from core.temporal.contracts import BulkProvisioningInput, ProvisioningInput
from tests.api.conftest import Enter, Person
from tests.support.tenants import make_device, make_profile, make_tenant
from tests.support.waiting import eventually


@pytest.fixture
async def profile(owner: Database, tenant_id: UUID) -> UUID:
    """A profile named `sensor`."""
    return await make_profile(owner, tenant_id)


async def _started(owner: Database, tenant_id: UUID, kind: str) -> list[dict[str, object]]:
    async with owner.transaction(tenant_id) as session:
        rows = await session.scalars(
            select(TriggerOutbox.payload)
            .where(col(TriggerOutbox.tenant_id) == tenant_id)
            .order_by(col(TriggerOutbox.id))
        )
        return [dict(row) for row in rows if row["workflow_type"] == kind]


async def test_a_new_device_gets_a_key_once_and_is_provisioned(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    answer = await client.post(
        "/api/v1/devices",
        json={
            "name": "pump-1",
            "type": "sensor",
            "location": {"latitude": 52.5, "longitude": 13.4},
            "metadata": {"site": "plant-1"},
            "configuration": {"desired": {"interval": 5}},
        },
    )
    assert answer.status_code == 201, answer.text
    device, credentials = answer.json()["device"], answer.json()["credentials"]
    assert device["lifecycle"] == "registered"
    assert device["metadata"] == {"site": "plant-1"}
    assert credentials["mqtt_endpoint"].startswith("mqtt://")
    async with owner.transaction(tenant_id) as session:
        stored = await session.scalar(
            select(DeviceCredential.key_sha256).where(
                col(DeviceCredential.device_id) == UUID(device["id"])
            )
        )
    assert stored == device_key_digest(credentials["device_key"])
    started = await _started(owner, tenant_id, "DeviceProvisioning")
    start = ProvisioningInput.model_validate(started[0]["input"])
    assert start.key_sha256 == device_key_digest(credentials["device_key"]).hex()
    assert start.desired == {"interval": 5}
    assert credentials["device_key"] not in str(started)
    read = await client.get(f"/api/v1/devices/{device['id']}")
    assert read.json() == device


async def test_a_device_of_an_unknown_type_is_refused_with_the_place(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/api/v1/devices", json={"name": "x", "type": "sonsor"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/type"


async def test_a_name_is_used_once(client: httpx.AsyncClient, profile: UUID) -> None:
    form = {"name": "twin", "type": "sensor"}
    assert (await client.post("/api/v1/devices", json=form)).status_code == 201
    again = await client.post("/api/v1/devices", json=form)
    assert again.status_code == 409
    assert again.json()["code"] == "conflict"


async def test_devices_are_listed_in_pages_and_filtered(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    other = await make_profile(owner, tenant_id, "turbofan")
    for number in range(5):
        await make_device(owner, tenant_id, profile, f"pump_{number}")
    await make_device(owner, tenant_id, other, "engine")
    await make_device(owner, tenant_id, profile, "old", lifecycle="decommissioned")

    first = (await client.get("/api/v1/devices", params={"limit": 4})).json()
    assert first["pagination"] == {"total": 6, "page": 1, "limit": 4, "total_pages": 2}
    second = (await client.get("/api/v1/devices", params={"limit": 4, "page": 2})).json()
    names_ = [device["name"] for device in first["devices"] + second["devices"]]
    assert names_ == ["engine", *(f"pump_{n}" for n in range(5))]

    async def listed(**params: str) -> list[str]:
        answer = await client.get("/api/v1/devices", params=params)
        return [device["name"] for device in answer.json()["devices"]]

    assert await listed(type="turbofan") == ["engine"]
    assert await listed(search="u_p") == []  # no wildcard
    assert await listed(search="UMP_3") == ["pump_3"]
    assert await listed(status="online") == []
    assert await listed(lifecycle="decommissioned") == ["old"]
    beyond = (await client.get("/api/v1/devices", params={"page": 9})).json()
    assert beyond["devices"] == []
    assert beyond["pagination"]["total"] == 6


async def test_a_change_touches_only_what_it_names(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    made = await make_device(owner, tenant_id, profile, "before")
    path = f"/api/v1/devices/{made.id}"
    await client.patch(
        path, json={"metadata": {"a": 1}, "location": {"latitude": 1, "longitude": 2}}
    )
    answer = await client.patch(path, json={"name": "after"})
    assert answer.json()["name"] == "after"
    assert answer.json()["metadata"] == {"a": 1}
    assert answer.json()["location"]["latitude"] == 1
    cleared = await client.patch(path, json={"location": None})
    assert cleared.json()["location"] is None
    assert cleared.json()["metadata"] == {"a": 1}


async def test_deleting_takes_a_device_out_of_service_and_keeps_its_history(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID, bus: Redis
) -> None:
    made = await make_device(owner, tenant_id, profile)
    async with owner.transaction(tenant_id) as session:
        session.add(DeviceEvent(tenant_id=tenant_id, device_id=made.id, name="failure"))
    async with bus.pubsub(ignore_subscribe_messages=True) as notices:
        await notices.subscribe(channels.DEVICE_DISCONNECT)
        await notices.get_message(timeout=5)
        assert (await client.delete(f"/api/v1/devices/{made.id}")).status_code == 204
        notice = await notices.get_message(timeout=5)
    assert notice is not None
    assert notice["data"] == str(made.id).encode()
    async with owner.transaction(tenant_id) as session:
        revoked = await session.scalar(
            select(DeviceCredential.revoked_at).where(col(DeviceCredential.device_id) == made.id)
        )
        assert revoked is not None
    assert len(await _started(owner, tenant_id, "DeviceDecommissioning")) == 1
    assert (await client.get(f"/api/v1/devices/{made.id}")).json()["lifecycle"] == "decommissioned"
    events = (await client.get(f"/api/v1/devices/{made.id}/events")).json()
    assert [event["name"] for event in events["events"]] == ["failure"]
    assert (await client.delete(f"/api/v1/devices/{made.id}")).status_code == 204
    for path, body in (("", {"name": "new"}), ("/twin/desired", {"a": 1})):
        answer = await client.patch(f"/api/v1/devices/{made.id}{path}", json=body)
        assert answer.status_code == 409


async def test_an_expired_device_is_provisioned_again_with_a_new_key(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    created = (await client.post("/api/v1/devices", json={"name": "late", "type": "sensor"})).json()
    device_id = UUID(created["device"]["id"])
    path = f"/api/v1/devices/{device_id}/provision"
    assert (await client.post(path)).status_code == 409  # the first start is still to come
    async with owner.transaction(tenant_id) as session:
        row = await session.scalar(
            select(TriggerOutbox).where(
                col(TriggerOutbox.key) == names.provisioning_id(tenant_id, device_id)
            )
        )
        device = await session.get(Device, device_id)
        assert row is not None
        assert device is not None
        row.done_at = row.created_at
        device.lifecycle = "expired"
    again = await client.post(path)
    assert again.status_code == 202, again.text
    key = again.json()["credentials"]["device_key"]
    assert key != created["credentials"]["device_key"]
    async with owner.transaction(tenant_id) as session:
        valid = await session.scalars(
            select(DeviceCredential.key_sha256).where(
                col(DeviceCredential.device_id) == device_id,
                col(DeviceCredential.revoked_at).is_(None),
            )
        )
        assert list(valid) == [device_key_digest(key)]
    started = await _started(owner, tenant_id, "DeviceProvisioning")
    # Temporal has seen this id, and the broker's signal must still find it.
    assert [(start["workflow_id"], start["again"]) for start in started] == [
        (names.provisioning_id(tenant_id, device_id), True)
    ]


async def test_rotating_replaces_the_key(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    made = await make_device(owner, tenant_id, profile)
    answer = await client.post(f"/api/v1/devices/{made.id}/credentials/rotate")
    key = answer.json()["device_key"]
    async with owner.transaction(tenant_id) as session:
        rows = await session.scalars(
            select(DeviceCredential).where(col(DeviceCredential.device_id) == made.id)
        )
        valid = {row.key_sha256: row.revoked_at is None for row in rows}
    assert valid == {device_key_digest(made.key): False, device_key_digest(key): True}


async def test_a_bulk_is_created_whole_or_not_at_all(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    forms = [{"name": f"d{n}", "type": "sensor"} for n in range(2500)]
    bad = [*forms, {"name": "d7", "type": "sensor"}]
    refused = await client.post("/api/v1/devices/bulk", json={"devices": bad})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"pointer": "/devices/2500/name", "message": "'d7' is in the list twice."}
    ]
    assert (await client.get("/api/v1/devices")).json()["pagination"]["total"] == 0

    answer = await client.post("/api/v1/devices/bulk", json={"devices": forms})
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert len({device["device_key"] for device in made["devices"]}) == 2500
    assert (await client.get("/api/v1/devices")).json()["pagination"]["total"] == 2500
    started = await _started(owner, tenant_id, "BulkProvisioning")
    parts = [BulkProvisioningInput.model_validate(start["input"]) for start in started]
    assert [len(part.devices) for part in parts] == [1000, 1000, 500]
    assert len({part.bulk_id for part in parts}) == 3


async def test_a_bulk_that_nobody_started_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/api/v1/devices/bulk/{uuid4()}")).status_code == 404


async def test_every_change_is_in_the_audit_log(
    admin: Person, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    made = (
        await admin.client.post("/api/v1/devices", json={"name": "seen", "type": "sensor"})
    ).json()
    device_id = made["device"]["id"]
    await admin.client.patch(f"/api/v1/devices/{device_id}", json={"name": "seen-2"})
    await admin.client.delete(f"/api/v1/devices/{device_id}")
    answer = await admin.client.get(
        "/api/v1/audit", params={"resource_id": device_id, "user_id": str(admin.user_id)}
    )
    assert [entry["action"] for entry in answer.json()["entries"]] == [
        "device.deleted",
        "device.updated",
        "device.created",
    ]
    assert answer.json()["entries"][0]["address"].startswith("192.0.2.")


async def test_a_failed_request_leaves_nothing_behind(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    before = await _count(owner, tenant_id)
    form = {"name": "a", "type": "sensor", "metadata": {"nul": "\x00"}}
    assert (await client.post("/api/v1/devices", json=form)).status_code == 422
    assert await _count(owner, tenant_id) == before


async def _count(owner: Database, tenant_id: UUID) -> int:
    async with owner.transaction(tenant_id) as session:
        rows = await session.scalars(
            select(AuditEntry.id).where(col(AuditEntry.tenant_id) == tenant_id)
        )
        return len(list(rows))


async def test_another_tenants_device_does_not_exist(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, enter: Enter, profile: UUID
) -> None:
    other = await make_tenant(owner)
    theirs = await make_device(owner, other, await make_profile(owner, other), "theirs")
    path = f"/api/v1/devices/{theirs.id}"
    span = {"start_time": "2025-01-01T00:00:00Z", "end_time": "2025-01-02T00:00:00Z"}
    tried = [
        await client.get(path),
        await client.patch(path, json={"name": "mine"}),
        await client.delete(path),
        await client.post(f"{path}/provision"),
        await client.post(f"{path}/credentials/rotate"),
        await client.delete(f"{path}/credentials"),
        await client.get(f"{path}/events"),
        await client.get(f"{path}/dead-letters"),
        await client.get(f"{path}/data", params=span),
        await client.get(f"{path}/latest"),
        await client.get(f"{path}/twin"),
        await client.patch(f"{path}/twin/desired", json={"a": 1}),
        await client.post(f"{path}/commands", json={"name": "stop"}),
        await client.get(f"{path}/commands"),
        await client.get(f"{path}/commands/{uuid4()}"),
        await client.post(
            "/api/v1/analytics/predict",
            json={"device_id": str(theirs.id), "prediction_type": "trend"},
        ),
    ]
    assert [answer.status_code for answer in tried] == [404] * len(tried)
    assert (await client.get("/api/v1/devices")).json()["devices"] == []
    assert (await client.get("/api/v1/audit", params={"resource_id": str(theirs.id)})).json()[
        "entries"
    ] == []
    them = await enter(other)
    assert (await them.client.get(path)).json()["name"] == "theirs"


async def test_the_name_of_a_device_out_of_service_can_be_used_again(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, profile: UUID
) -> None:
    old = await make_device(owner, tenant_id, profile, "again")
    form = {"name": "again", "type": "sensor"}
    assert (await client.post("/api/v1/devices", json=form)).status_code == 409
    assert (await client.delete(f"/api/v1/devices/{old.id}")).status_code == 204
    made = await client.post("/api/v1/devices", json=form)
    assert made.status_code == 201, made.text
    assert (await client.post("/api/v1/devices", json=form)).status_code == 409
    both = await client.get("/api/v1/devices", params={"lifecycle": "decommissioned"})
    assert [device["id"] for device in both.json()["devices"]] == [str(old.id)]
    # The second one goes the way of the first, and both keep their name and history.
    new = made.json()["device"]["id"]
    assert (await client.delete(f"/api/v1/devices/{new}")).status_code == 204
    both = await client.get("/api/v1/devices", params={"lifecycle": "decommissioned"})
    assert {device["id"] for device in both.json()["devices"]} == {str(old.id), new}


async def test_site_and_tags_are_kept_changed_and_filtered_by(
    client: httpx.AsyncClient, profile: UUID, bus: Redis
) -> None:
    async def make(name: str, **more: object) -> str:
        answer = await client.post("/api/v1/devices", json={"name": name, "type": "sensor", **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["device"]["id"])

    async def listed(**parameters: str | list[str]) -> list[str]:
        answer = await client.get("/api/v1/devices", params=httpx.QueryParams(parameters))
        return [device["name"] for device in answer.json()["devices"]]

    first = await make("a", site=" plant-1 ", tags=["hot", "new", "hot"])
    await make("b", site="plant-2", tags=["hot"])
    await make("c")
    bulk = {"devices": [{"name": "d", "type": "sensor", "site": "plant-1", "tags": ["bulk"]}]}
    assert (await client.post("/api/v1/devices/bulk", json=bulk)).status_code == 202
    device = (await client.get(f"/api/v1/devices/{first}")).json()
    assert (device["site"], device["tags"]) == ("plant-1", ["hot", "new"])
    assert await listed(site="plant-1") == ["a", "d"]
    assert await listed(tag="hot") == ["a", "b"]
    assert await listed(tag=["hot", "new"]) == ["a"]
    assert await listed(tag="bulk", site="plant-1") == ["d"]

    async with bus.pubsub() as pubsub:
        await pubsub.subscribe(channels.DEVICE_CHANGED)
        changed = await client.patch(f"/api/v1/devices/{first}", json={"site": None, "tags": []})
        assert (changed.json()["site"], changed.json()["tags"]) == (None, [])
        told: list[str] = []

        async def heard() -> bool:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                told.append(message["data"].decode())
            return bool(told)

        await eventually(heard)
    assert told == [first]
    assert await listed(site="plant-1") == ["d"]


@pytest.mark.parametrize(
    "fault", [{"tags": [""]}, {"tags": ["x"] * 51}, {"tags": "hot"}, {"site": "s" * 101}]
)
async def test_bad_sites_and_tags_are_refused(
    client: httpx.AsyncClient, profile: UUID, fault: dict[str, object]
) -> None:
    form = {"name": "a", "type": "sensor", **fault}
    assert (await client.post("/api/v1/devices", json=form)).status_code == 422
