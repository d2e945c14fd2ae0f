"""Another broker asks whether a device may come in and what it may use."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import SecretStr

from api.mqtt_auth.service import Gate
from core import topics
from core.db.session import Database
from core.settings import Settings
from tests.api.conftest import client_for
from tests.support.tenants import MadeDevice, make_device, make_profile

HOOKS = ("auth", "acl", "getuser", "superuser", "aclcheck")


@pytest.fixture
async def made(owner: Database, tenant_id: UUID) -> MadeDevice:
    """A device with a key."""
    return await make_device(owner, tenant_id, await make_profile(owner, tenant_id))


@pytest.fixture
async def broker(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A broker that knows the secret."""
    async with client_for(app, authorization=f"Bearer {settings.secrets.mqtt_auth}") as client:
        client.base_url = "http://api.test/api/v1/mqtt/"
        yield client


async def emqx(broker: httpx.AsyncClient, hook: str, **question: object) -> str:
    answer = await broker.post(hook, json=question)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


async def mosquitto(broker: httpx.AsyncClient, hook: str, **question: object) -> int:
    """Ask in both forms of parameters and of answers, which must agree."""
    as_json = await broker.post(hook, json=question)
    as_form = await broker.post(hook, data=question)
    assert as_json.status_code == as_form.status_code
    assert as_json.json()["ok"] is (as_json.status_code == 200)
    return as_json.status_code


@pytest.mark.parametrize("hook", HOOKS)
async def test_without_the_secret_nothing_is_answered(
    app: FastAPI, settings: Settings, made: MadeDevice, hook: str
) -> None:
    question = {"username": str(made.id), "password": made.key}
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {settings.secrets.mqtt_auth}"},
        {"user-agent": ""},
    ):
        async with client_for(app, **headers) as client:
            answer = await client.post(f"/api/v1/mqtt/{hook}", json=question)
            assert answer.status_code == 401
            assert settings.secrets.mqtt_auth not in answer.text


async def test_the_secret_may_come_as_the_user_agent(
    app: FastAPI, settings: Settings, made: MadeDevice
) -> None:
    headers = {"user-agent": settings.secrets.mqtt_auth}  # all that mosquitto-go-auth can set
    async with client_for(app, **headers) as client:
        question = {"username": str(made.id), "password": made.key}
        assert (await client.post("/api/v1/mqtt/getuser", json=question)).status_code == 200


async def test_a_device_comes_in_with_its_key_and_nobody_else(
    broker: httpx.AsyncClient, made: MadeDevice, owner: Database, tenant_id: UUID
) -> None:
    other = await make_device(
        owner, tenant_id, await make_profile(owner, tenant_id, "another"), "another"
    )
    tried = [
        (str(made.id), made.key, True),
        (made.key, "", True),
        (made.key, None, True),
        (str(made.id), "wrong", False),
        (str(made.id), "", False),
        (str(made.id), other.key, False),
        (str(uuid4()), made.key, False),
        ("no-uuid", made.key, False),
        ("", "", False),
        (None, None, False),
    ]
    for username, password, allowed in tried:
        question = {"username": username, "password": password, "clientid": "c"}
        assert await emqx(broker, "auth", **question) == ("allow" if allowed else "deny")
        if username is not None and password is not None:
            status = await mosquitto(broker, "getuser", **question)
            assert status == (200 if allowed else 403)
    assert await mosquitto(broker, "superuser", username=str(made.id)) == 403


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE device_credentials SET revoked_at = now() WHERE device_id = :id",
        "UPDATE device_credentials SET expires_at = now() - interval '1 s' WHERE device_id = :id",
        "UPDATE devices SET lifecycle = 'decommissioned' WHERE id = :id",
        "UPDATE tenants SET active = false WHERE id = (SELECT tenant_id FROM devices WHERE id=:id)",
    ],
)
async def test_what_is_out_of_service_stays_out(
    broker: httpx.AsyncClient, made: MadeDevice, owner: Database, tenant_id: UUID, statement: str
) -> None:
    async with owner.transaction(tenant_id) as session:
        await session.execute(sa.text(statement), {"id": made.id})
    assert await emqx(broker, "auth", username=str(made.id), password=made.key) == "deny"
    assert await emqx(broker, "auth", username=made.key) == "deny"


async def test_a_key_that_ends_says_when(
    broker: httpx.AsyncClient, made: MadeDevice, owner: Database, tenant_id: UUID
) -> None:
    async with owner.transaction(tenant_id) as session:
        await session.execute(
            sa.text(
                "UPDATE device_credentials SET expires_at = to_timestamp(4102444800) "
                "WHERE device_id = :id"
            ),
            {"id": made.id},
        )
    answer = await broker.post("auth", json={"username": str(made.id), "password": made.key})
    assert answer.json() == {"result": "allow", "is_superuser": False, "expire_at": 4_102_444_800}


async def test_a_device_uses_its_own_topics_and_only_those(
    broker: httpx.AsyncClient, made: MadeDevice
) -> None:
    other = uuid4()
    publish = {
        topics.telemetry(made.id): True,
        topics.attributes(made.id): True,
        topics.events(made.id): True,
        topics.command_response(made.id, "reboot"): True,
        topics.telemetry(other): False,
        topics.telemetry("me"): False,
        topics.desired(made.id): False,
        topics.command(made.id, "reboot"): False,
        "v1/devices/+/telemetry": False,
        "$share/iotlinker/v1/devices/+/telemetry": False,
        "": False,
    }
    subscribe = {
        topics.command(made.id, "+"): True,
        topics.desired(made.id): True,
        f"v1/devices/{made.id}/#": True,
        topics.command("me", "+"): False,
        topics.telemetry(made.id): False,
        topics.command(other, "+"): False,
        "v1/devices/+/commands/+": False,
        "#": False,
    }
    for username in (str(made.id), made.key):
        for action, acc, rules in (("publish", 2, publish), ("subscribe", 4, subscribe)):
            for topic, allowed in rules.items():
                question = {"username": username, "topic": topic}
                answer = await emqx(broker, "acl", action=action, **question)
                assert answer == ("allow" if allowed else "deny"), (action, topic)
                status = await mosquitto(broker, "aclcheck", acc=acc, **question)
                assert status == (200 if allowed else 403), (action, topic)
    own = topics.command(made.id, "reboot")
    assert await mosquitto(broker, "aclcheck", acc=1, username=str(made.id), topic=own) == 200
    assert await mosquitto(broker, "aclcheck", acc=3, username=str(made.id), topic=own) == 403
    assert await mosquitto(broker, "aclcheck", acc=0, username=str(made.id), topic=own) == 403
    assert await emqx(broker, "acl", action="publish", topic=own) == "deny"
    assert await emqx(broker, "acl", username="unknown", action="subscribe", topic=own) == "deny"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"username": 5}', b"\xff"])
async def test_a_question_that_cannot_be_read_is_refused(
    broker: httpx.AsyncClient, body: bytes
) -> None:
    for hook in HOOKS:
        answer = await broker.post(hook, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422


async def test_ingest_itself_may_use_every_topic(
    app: FastAPI, broker: httpx.AsyncClient, settings: Settings
) -> None:
    services = app.state.services
    named = settings.ingest.model_copy(
        update={"username": "ingest", "password": SecretStr("correct")}
    )
    services.gate = Gate(services.database, named)
    shared = "$share/iotlinker/v1/devices/+/telemetry"
    right = {"username": "ingest", "password": "correct"}
    answer = await broker.post("auth", json=right)
    assert answer.json() == {"result": "allow", "is_superuser": True}
    assert await emqx(broker, "auth", username="ingest", password="wrong") == "deny"
    assert await emqx(broker, "auth", username="ingest") == "deny"
    assert await emqx(broker, "acl", username="ingest", action="subscribe", topic=shared) == "allow"
    assert await mosquitto(broker, "superuser", username="ingest") == 200
