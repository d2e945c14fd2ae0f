"""Dead letters are found over all devices, replayed once, and deleted."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa

from core.db.session import Database
from core.db.tables import DeadLetter
from core.settings import Settings
from tests.api.conftest import Person
from tests.broker.conftest import broker_running
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant

PATH = "/api/v1/telemetry/dead-letters"
AT = datetime(2025, 3, 1, 10, tzinfo=UTC)


@pytest.fixture
async def ingesting(postgres_server: Settings, valkey_server: Settings) -> AsyncIterator[None]:
    async with broker_running(postgres_server):
        yield


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    return await make_device(owner, tenant_id, await make_profile(owner, tenant_id))


async def bury(
    owner: Database, tenant_id: UUID, device: MadeDevice, payload: bytes, **more: Any
) -> str:
    """Keep a message as dead; returns its id."""
    values: dict[str, Any] = {
        "received_at": AT,
        "topic": f"v1/devices/{device.id}/telemetry",
        "code": "not_json",
        "message": "the payload is not JSON",
    }
    async with owner.transaction(tenant_id) as session:
        letter = DeadLetter(
            tenant_id=tenant_id, device_id=device.id, payload=payload, **(values | more)
        )
        session.add(letter)
        return str(letter.id)


async def times(owner: Database, device: MadeDevice) -> list[datetime]:
    async with owner.transaction(None) as session:
        rows = await session.scalars(
            sa.text("SELECT time FROM telemetry WHERE device_id = :id ORDER BY time"),
            {"id": device.id},
        )
        return list(rows)


async def test_letters_are_listed_by_device_code_time_and_whether_they_were_replayed(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, device: MadeDevice
) -> None:
    other = await make_device(owner, tenant_id, await make_profile(owner, tenant_id, "b"))
    foreign = await make_tenant(owner)
    stranger = await make_device(owner, foreign, await make_profile(owner, foreign))
    first = await bury(owner, tenant_id, device, b"\xff{")
    second = await bury(
        owner, tenant_id, other, b"[]", code="empty", received_at=AT + timedelta(hours=1)
    )
    third = await bury(
        owner, tenant_id, other, b"x", received_at=AT + timedelta(hours=2), replayed_at=AT
    )
    hidden = await bury(owner, foreign, stranger, b"x")

    async def found(**parameters: Any) -> list[str]:
        answer = await client.get(PATH, params=parameters)
        assert answer.status_code == 200, answer.text
        return [letter["id"] for letter in answer.json()["dead_letters"]]

    assert await found() == [third, second, first]
    assert await found(device_id=str(device.id)) == [first]
    assert await found(code="empty") == [second]
    assert await found(replayed=False) == [second, first]
    assert await found(start_time=(AT + timedelta(hours=1)).isoformat(), replayed=False) == [second]
    assert await found(end_time=(AT + timedelta(hours=1)).isoformat()) == [first]
    assert await found(limit=1, page=2) == [second]
    whole = (await client.get(f"{PATH}/{first}")).json()
    assert whole["payload"] == "\ufffd{"
    assert base64.b64decode(whole["payload_base64"]) == b"\xff{"
    assert (await client.get(f"{PATH}/{hidden}")).status_code == 404


@pytest.mark.usefixtures("ingesting")
async def test_a_mended_letter_is_stored_at_the_time_of_its_receipt_once_and_says_by_whom(
    admin: Person, owner: Database, tenant_id: UUID, device: MadeDevice
) -> None:
    letter = await bury(owner, tenant_id, device, b'{"a": 1')
    answer = await admin.client.post(f"{PATH}/{letter}/replay", json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "not_json")
    answer = await admin.client.post(f"{PATH}/{letter}/replay", json={"payload": '{"a": [1]}'})
    assert answer.json()["errors"][0]["pointer"] == "/a"
    unchanged = (await admin.client.get(f"{PATH}/{letter}")).json()
    assert (unchanged["code"], unchanged["payload"]) == ("not_json", '{"a": 1')

    answer = await admin.client.post(f"{PATH}/{letter}/replay", json={"payload": '{"a": 1}'})
    assert answer.status_code == 200, answer.text
    assert answer.json()["replayed_by"] == str(admin.user_id)
    assert answer.json()["replayed_at"] is not None
    assert await times(owner, device) == [AT]
    again = await admin.client.post(f"{PATH}/{letter}/replay", json={})
    assert again.status_code == 409
    entries = (await admin.client.get("/api/v1/audit", params={"resource_id": letter})).json()
    assert [entry["action"] for entry in entries["entries"]] == ["dead_letter.replayed"]
    # Refused replays leave no further letters.
    assert (await admin.client.get(PATH)).json()["pagination"]["total"] == 1


@pytest.mark.usefixtures("ingesting")
async def test_many_are_replayed_at_once_and_those_refused_again_have_their_new_reason(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, device: MadeDevice
) -> None:
    good = [
        await bury(
            owner,
            tenant_id,
            device,
            b'{"a": 1}',
            code="too_many_lists",
            received_at=AT + timedelta(seconds=n),
        )
        for n in range(3)
    ]
    bad = await bury(owner, tenant_id, device, b'{"a": [1]}', code="too_many_lists")
    answer = await client.post(f"{PATH}/replay", json={"ids": [good[0], bad, str(uuid4())]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["replayed"] == [good[0]]
    (refused,) = answer.json()["refused"]
    assert (refused["id"], refused["code"], refused["pointer"]) == (bad, "unsupported_type", "/a")
    assert (await client.get(f"{PATH}/{bad}")).json()["code"] == "unsupported_type"

    # What no device can publish has no new reason, but keeps the one it has.
    foreign = await bury(owner, tenant_id, device, b"{}", topic="v1/gateway/telemetry")
    answer = await client.post(f"{PATH}/replay", json={"ids": [foreign]})
    assert [refused["code"] for refused in answer.json()["refused"]] == ["unknown_topic"]
    assert (await client.get(f"{PATH}/{foreign}")).json()["code"] == "not_json"

    answer = await client.post(f"{PATH}/replay", json={"filter": {"code": "too_many_lists"}})
    assert answer.json() == {"replayed": good[1:], "refused": []}
    assert len(await times(owner, device)) == 3
    for body in ({}, {"ids": [bad], "filter": {}}):
        assert (await client.post(f"{PATH}/replay", json=body)).status_code == 422


async def test_a_deleted_letter_is_gone_and_audited(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, device: MadeDevice
) -> None:
    letter = await bury(owner, tenant_id, device, b"x")
    assert (await client.delete(f"{PATH}/{letter}")).status_code == 204
    assert (await client.delete(f"{PATH}/{letter}")).status_code == 404
    entries = (await client.get("/api/v1/audit", params={"resource_id": letter})).json()["entries"]
    assert [entry["action"] for entry in entries] == ["dead_letter.deleted"]
