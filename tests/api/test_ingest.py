"""Measurements over HTTP: the answer means committed, and says exactly what was wrong."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from core.db.session import Database
from core.db.tables import DeadLetter, Device, Telemetry
from core.settings import Settings
from tests.api.conftest import Enter
from tests.broker.conftest import broker_running
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant

AT = 1_740_823_200_000


@pytest.fixture
async def ingesting(postgres_server: Settings, valkey_server: Settings) -> AsyncIterator[None]:
    """The broker that the application hands its messages to."""
    async with broker_running(postgres_server):
        yield


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    return await make_device(owner, tenant_id, await make_profile(owner, tenant_id), "pump-1")


async def stored(owner: Database, device: MadeDevice) -> int:
    async with owner.transaction(None) as session:
        return (
            await session.scalar(
                select(sa.func.count())
                .select_from(Telemetry)
                .where(col(Telemetry.device_id) == device.id)
            )
            or 0
        )


@pytest.mark.usefixtures("ingesting")
async def test_a_user_and_the_device_itself_may_send(
    client: httpx.AsyncClient, anonymous: httpx.AsyncClient, owner: Database, device: MadeDevice
) -> None:
    path = f"/api/v1/devices/{device.id}/telemetry"
    by_token = f"/api/v1/{device.key}"
    answers = [
        await client.post(path, json={"ts": AT, "values": {"a": 1}}),
        await client.post(path, json={"ts": AT, "values": {"a": 1}}),  # the same, stored once
        await anonymous.post(
            path, json={"ts": AT + 1, "a": 1}, headers={"x-device-key": device.key}
        ),
        await anonymous.post(
            path, json=[{"ts": AT + 2, "a": 1}], headers={"authorization": f"Bearer {device.key}"}
        ),
        await anonymous.post(f"{by_token}/telemetry", json={"ts": AT + 3, "values": {"a": 1}}),
        await anonymous.post(f"{by_token}/attributes", json={"firmware": "1.4"}),
    ]
    assert [(a.status_code, a.json()) for a in answers] == [(200, {"stored": 1})] * 6
    assert await stored(owner, device) == 4
    twin = (await client.get(f"/api/v1/devices/{device.id}/twin")).json()
    assert twin["reported"]["state"] == {"firmware": "1.4"}


@pytest.mark.usefixtures("ingesting")
async def test_wrong_keys_other_tenants_and_missing_permissions_are_refused(
    client: httpx.AsyncClient,
    anonymous: httpx.AsyncClient,
    owner: Database,
    enter: Enter,
    tenant_id: UUID,
    device: MadeDevice,
) -> None:
    path = f"/api/v1/devices/{device.id}/telemetry"
    foreign = await make_tenant(owner)
    other = await make_device(owner, foreign, await make_profile(owner, foreign))
    body = {"a": 1}
    for key in ("wrong", other.key):
        answer = await anonymous.post(path, json=body, headers={"x-device-key": key})
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert (await anonymous.post("/api/v1/wrong/telemetry", json=body)).status_code == 401
    assert (
        await client.post(f"/api/v1/devices/{other.id}/telemetry", json=body)
    ).status_code == 404
    reader = await enter(tenant_id, "end_user")
    assert (await reader.client.post(path, json=body)).status_code == 403
    assert (await reader.client.post("/api/v1/telemetry", json=[])).status_code == 403
    assert await stored(owner, device) == 0


@pytest.mark.usefixtures("ingesting")
async def test_a_payload_at_fault_is_pointed_at_and_kept(
    client: httpx.AsyncClient, owner: Database, device: MadeDevice, postgres_server: Settings
) -> None:
    path = f"/api/v1/devices/{device.id}/telemetry"
    answer = await client.post(path, json={"values": {"a": {"b": 1}}})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "unsupported_type"
    assert problem["errors"][0]["pointer"] == "/values/a"
    async with owner.transaction(None) as session:
        letter = await session.scalar(
            select(DeadLetter).where(col(DeadLetter.device_id) == device.id)
        )
    assert letter is not None
    assert letter.topic == f"v1/devices/{device.id}/telemetry"
    too_long = b" " * (postgres_server.broker.max_payload + 1)
    assert (await client.post(path, content=too_long)).status_code == 413


def _item(**more: Any) -> dict[str, Any]:
    return {"telemetry": {"ts": AT, "values": {"a": 1}}} | more


@pytest.mark.usefixtures("ingesting")
async def test_a_bulk_takes_what_is_good_and_names_what_is_not(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, device: MadeDevice
) -> None:
    other = await make_device(owner, tenant_id, await make_profile(owner, tenant_id, "b"))
    async with owner.transaction(tenant_id) as session:
        await session.execute(
            sa.update(Device)
            .where(col(Device.id) == other.id)
            .values(labels={"external_id": "SN-1"})
        )
    good = [
        _item(device_id=str(device.id)),
        _item(device="pump-1", telemetry=[{"ts": AT + 1, "a": 1}, {"ts": AT + 2, "a": 2}]),
        _item(external_id="SN-1"),
    ]
    answer = await client.post("/api/v1/telemetry", json=good)
    assert (answer.status_code, answer.json()) == (200, {"stored": 3, "refused": []})
    assert (await stored(owner, device), await stored(owner, other)) == (3, 1)

    bad = [
        _item(device="pump-1", telemetry={"a": "x" * 3, "b": [1]}),
        good[0],
        _item(device="nobody"),
        _item(),
        _item(device_id="no-uuid"),
        _item(device_id=str(uuid4())),
        {"device": "pump-1", "telemtry": {}},
        7,
        _item(device="a\x00b"),
    ]
    lines = "\n".join(json.dumps(item) for item in bad) + "\n\n"
    for answer in (
        await client.post("/api/v1/telemetry", json=bad),
        await client.post(
            "/api/v1/telemetry",
            content=lines,
            headers={"content-type": "application/x-ndjson; charset=utf-8"},
        ),
    ):
        assert answer.status_code == 207
        document = answer.json()
        assert document["stored"] == 1
        assert [(r["index"], r["code"], r["pointer"]) for r in document["refused"]] == [
            (0, "unsupported_type", "/0/telemetry/b"),
            (2, "unknown_device", "/2/device"),
            (3, "invalid_device", "/3"),
            (4, "invalid_item", "/4/device_id"),
            (5, "unknown_device", "/5/device_id"),
            (6, "invalid_item", "/6"),
            (7, "invalid_item", "/7"),
            (8, "unknown_device", "/8/device"),
        ]


async def test_a_bulk_that_is_no_list_or_too_long_is_refused_as_a_whole(
    client: httpx.AsyncClient,
) -> None:
    for body in (b"{}", b"", b"[]", b"[1", json.dumps([0] * 10_001).encode()):
        answer = await client.post("/api/v1/telemetry", content=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), body


async def test_without_a_broker_the_answer_is_to_come_back(
    client: httpx.AsyncClient, owner: Database, device: MadeDevice
) -> None:
    item = _item(device_id=str(device.id))
    for answer in (
        await client.post(f"/api/v1/devices/{device.id}/telemetry", json={"a": 1}),
        await client.post("/api/v1/telemetry", json=[item]),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert await stored(owner, device) == 0
