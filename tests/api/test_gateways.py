"""Devices are given to gateways and claimed; profiles let devices ask for credentials."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis

from core import bus as channels
from core.crypto import device_key_digest
from core.db.session import Database
from core.settings import Settings
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def sql(postgres_server: Settings) -> AsyncIterator[Sql]:
    """PostgreSQL as the administrator."""
    connection = await asyncpg.connect(postgres_server.admin_database_url, timeout=10)
    yield connection
    await connection.close(timeout=10)


@pytest.fixture
async def profile(owner: Database, tenant_id: UUID) -> UUID:
    """A profile."""
    return await make_profile(owner, tenant_id)


@pytest.fixture
async def gateway(owner: Database, tenant_id: UUID, profile: UUID) -> MadeDevice:
    """A device that others are given to."""
    return await make_device(owner, tenant_id, profile, name="gateway")


@pytest.fixture
async def pump(owner: Database, tenant_id: UUID, profile: UUID) -> MadeDevice:
    """A device to be given."""
    return await make_device(owner, tenant_id, profile, name="pump")


async def test_a_device_is_given_to_a_gateway_and_taken_again(
    client: httpx.AsyncClient, gateway: MadeDevice, pump: MadeDevice, bus: Redis
) -> None:
    address = f"/api/v1/devices/{gateway.id}/children"
    made = await client.put(f"{address}/{pump.id}", json={"name": "P-1"})
    assert made.status_code == 200, made.text
    assert (made.json()["name"], made.json()["device_name"]) == ("P-1", "pump")
    renamed = await client.put(f"{address}/{pump.id}")
    assert renamed.json()["name"] == "pump"
    listed = (await client.get(address)).json()
    assert [child["device_id"] for child in listed["children"]] == [str(pump.id)]
    async with bus.pubsub() as pubsub:
        await pubsub.subscribe(channels.DEVICE_DISCONNECT)
        assert (await client.delete(f"{address}/{pump.id}")).status_code == 204

        async def told() -> Any:
            found = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
            return found and found["data"].decode() == str(pump.id)

        await eventually(told)
    assert (await client.delete(f"{address}/{pump.id}")).status_code == 404
    assert (await client.get(address)).json()["children"] == []


async def test_a_name_means_one_device_of_a_gateway(
    client: httpx.AsyncClient,
    gateway: MadeDevice,
    pump: MadeDevice,
    owner: Database,
    tenant_id: UUID,
    profile: UUID,
) -> None:
    other = await make_device(owner, tenant_id, profile, name="other")
    address = f"/api/v1/devices/{gateway.id}/children"
    await client.put(f"{address}/{pump.id}", json={"name": "P-1"})
    taken = await client.put(f"{address}/{other.id}", json={"name": "P-1"})
    assert taken.status_code == 409
    assert (await client.put(f"{address}/{gateway.id}")).status_code == 422
    assert (await client.put(f"{address}/{uuid4()}")).status_code == 404


async def test_a_device_of_another_tenant_cannot_be_given(
    client: httpx.AsyncClient, gateway: MadeDevice, owner: Database
) -> None:
    elsewhere = await make_tenant(owner)
    foreign = await make_device(owner, elsewhere, await make_profile(owner, elsewhere))
    address = f"/api/v1/devices/{gateway.id}/children/{foreign.id}"
    assert (await client.put(address)).status_code == 404


async def test_a_claim_needs_the_secret_and_is_good_once(
    client: httpx.AsyncClient, pump: MadeDevice, sql: Sql, tenant_id: UUID
) -> None:
    right = {"name": "pump", "secret": "s3cret"}
    assert (await client.post("/api/v1/devices/claim", json=right)).status_code == 409
    await sql.execute(
        "INSERT INTO device_claims (device_id, tenant_id, secret_sha256, expires_at) "
        "VALUES ($1, $2, $3, now() + interval '1 minute')",
        pump.id,
        tenant_id,
        device_key_digest("s3cret"),
    )
    wrong = await client.post("/api/v1/devices/claim", json=right | {"secret": "x"})
    assert wrong.status_code == 409
    claimed = await client.post("/api/v1/devices/claim", json=right)
    assert claimed.status_code == 200, claimed.text
    assert claimed.json()["device_id"] == str(pump.id)
    events = (await client.get(f"/api/v1/devices/{pump.id}/events")).json()["events"]
    assert [event["name"] for event in events] == ["device.claimed"]
    assert (await client.post("/api/v1/devices/claim", json=right)).status_code == 409


async def test_a_provisioning_key_shows_its_secret_once(
    client: httpx.AsyncClient, profile: UUID, sql: Sql
) -> None:
    address = f"/api/v1/device-profiles/{profile}/provisioning"
    assert (await client.get(address)).status_code == 404
    made = (await client.put(address)).json()
    shown = (await client.get(address)).json()
    assert shown["provision_device_key"] == made["provision_device_key"]
    assert "provision_device_secret" not in shown
    stored = await sql.fetchval(
        "SELECT secret_sha256 FROM provisioning_keys WHERE profile_id = $1", profile
    )
    assert stored == device_key_digest(made["provision_device_secret"])
    again = (await client.put(address)).json()
    assert again["provision_device_key"] != made["provision_device_key"]
    assert (await client.delete(address)).status_code == 204
    assert (await client.delete(address)).status_code == 404


async def test_a_profile_says_that_its_devices_are_gateways(client: httpx.AsyncClient) -> None:
    form = {"name": "gw", "configuration": {"gateway": {"profile": "x"}, "sparkplug": True}}
    made = await client.post("/api/v1/device-profiles", json=form)
    assert made.status_code == 201, made.text
    wrong = {"name": "g2", "configuration": {"gateway": {"max_children": 0}}}
    refused = await client.post("/api/v1/device-profiles", json=wrong)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"].startswith("/configuration/gateway")
