"""What is sent down to devices."""

import asyncio
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from sqlmodel import col

from api.devices.twins import merge_patch
from core import bus as channels
from core.db.session import Database
from core.db.tables import DeviceCommand
from tests.support.tenants import MadeDevice, make_device, make_profile
from tests.support.waiting import eventually

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    """A device in service."""
    return await make_device(owner, tenant_id, await make_profile(owner, tenant_id))


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_rfc_says(
    target: object, patch: object, merged: object
) -> None:
    assert merge_patch(target, patch) == merged


@given(_JSON, _JSON)
def test_a_merge_patch_applied_twice_is_applied_once(target: object, patch: object) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


async def test_the_desired_state_is_patched_and_counted(
    client: httpx.AsyncClient, device: MadeDevice, bus: Redis
) -> None:
    path = f"/api/v1/devices/{device.id}/twin"
    empty = await client.get(path)
    assert empty.headers["etag"] == '"0"'
    async with bus.pubsub(ignore_subscribe_messages=True) as notices:
        await notices.subscribe(channels.DEVICE_DOWN)
        await notices.get_message(timeout=5)
        first = await client.patch(
            f"{path}/desired",
            content=b'{"interval": 5, "mode": {"a": 1, "b": 2}}',
            headers={"content-type": "application/merge-patch+json", "if-match": '"0"'},
        )
        notice = await notices.get_message(timeout=5)
    assert first.status_code == 200, first.text
    assert notice is not None
    assert notice["data"] == str(device.id).encode()
    second = await client.patch(f"{path}/desired", json={"mode": {"a": None}})
    assert second.json()["desired"]["state"] == {"interval": 5, "mode": {"b": 2}}
    assert second.json()["desired"]["version"] == 2
    assert second.headers["etag"] == '"2"'


async def test_a_change_of_an_older_version_is_refused(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    path = f"/api/v1/devices/{device.id}/twin/desired"
    await client.patch(path, json={"a": 1})
    answer = await client.patch(path, json={"a": 2}, headers={"if-match": '"0"'})
    assert answer.status_code == 412
    assert answer.json()["code"] == "precondition_failed"


async def test_of_two_changes_of_one_version_one_wins(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    path = f"/api/v1/devices/{device.id}/twin/desired"
    answers = await asyncio.gather(
        *(client.patch(path, json={"n": n}, headers={"if-match": '"0"'}) for n in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]


async def test_a_desired_state_stays_small(client: httpx.AsyncClient, device: MadeDevice) -> None:
    path = f"/api/v1/devices/{device.id}/twin/desired"
    assert (await client.patch(path, json={"a": "x" * 40_000})).status_code == 200
    assert (await client.patch(path, json={"b": "x" * 40_000})).status_code == 422


async def _answer(owner: Database, bus: Redis, tenant_id: UUID) -> None:
    """Do what the broker does when a device answers."""

    async def pending() -> UUID | None:
        async with owner.transaction(tenant_id) as session:
            return await session.scalar(
                sa.select(col(DeviceCommand.id)).where(col(DeviceCommand.tenant_id) == tenant_id)
            )

    command_id = await eventually(pending)
    async with owner.transaction(tenant_id) as session:
        await session.execute(
            sa.update(DeviceCommand)
            .where(col(DeviceCommand.id) == command_id)
            .values(status="answered", response={"ok": True}, answered_at=sa.func.now())
        )
    await bus.publish(channels.command_answered(command_id), b"")


async def test_a_command_waits_for_its_answer(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, device: MadeDevice, bus: Redis
) -> None:
    path = f"/api/v1/devices/{device.id}/commands"
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(
            client.post(path, json={"name": "stop", "payload": {"now": True}}, params={"wait": 20})
        )
        tasks.create_task(_answer(owner, bus, tenant_id))
    answer = asked.result()
    assert answer.status_code == 202
    assert answer.json()["status"] == "answered"
    assert answer.json()["response"] == {"ok": True}
    assert (await client.get(f"{path}/{answer.json()['id']}")).json() == answer.json()


async def test_a_command_that_nobody_answers_is_returned_as_it_stands(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    path = f"/api/v1/devices/{device.id}/commands"
    answer = await client.post(path, json={"name": "stop", "expires_in": 1}, params={"wait": 5})
    assert answer.json()["status"] == "expired"
    listed = (await client.get(path)).json()
    assert [command["status"] for command in listed["commands"]] == ["expired"]


@pytest.mark.parametrize("name", ["a/b", "a+", "#", "", "x" * 101])
async def test_a_command_name_is_one_level_of_a_topic(
    client: httpx.AsyncClient, device: MadeDevice, name: str
) -> None:
    answer = await client.post(f"/api/v1/devices/{device.id}/commands", json={"name": name})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/name"
