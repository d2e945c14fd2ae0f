"""Messages that come over HTTP go the way of all messages, and the answer means committed."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from broker import http_intake, status
from core import topics
from core.db.session import Database
from core.errors import NotAuthenticatedError, UnavailableError
from core.intake import PATH, IntakeClient, Message, intake_key
from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings, metric
from tests.broker.ingest.test_triggers import HOT, START_MS, outbox, publish
from tests.support.tenants import MadeDevice, make_tenant
from tests.support.waiting import eventually

Sql = Any
NOW_MS = int(datetime.now(UTC).timestamp() * 1000)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def intake(broker: Settings, http: httpx.AsyncClient) -> IntakeClient:
    return IntakeClient(broker, http)


def telemetry(device: MadeDevice, payload: Any) -> Message:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(device.id, topics.telemetry(device.id), body)


async def count(sql: Sql, table: str, device_id: UUID) -> int:
    return await sql.fetchval(f"SELECT count(*) FROM {table} WHERE device_id = $1", device_id)


async def test_what_is_answered_is_committed_and_the_same_again_is_stored_once(
    intake: IntakeClient, tenant_id: UUID, device: MadeDevice, another: Any, sql: Sql
) -> None:
    other = await another()
    messages = [
        telemetry(device, {"ts": NOW_MS, "values": {"a": 1}}),
        telemetry(other, [{"ts": NOW_MS, "a": 1}, {"ts": NOW_MS + 1, "a": 2}]),
        telemetry(device, {"ts": NOW_MS + 1, "values": {"b": 1, "mode": "eco"}}),
    ]
    for _ in range(2):
        outcomes = await intake.deliver(tenant_id, messages)
        assert [outcome.stored for outcome in outcomes] == [True] * 3
        assert await count(sql, "telemetry", device.id) == 2
        assert await count(sql, "telemetry", other.id) == 2
    reported = await sql.fetchval(
        "SELECT reported FROM device_attributes WHERE device_id = $1", device.id
    )
    assert json.loads(reported) == {"mode": "eco"}

    async def latest() -> bool:
        return await count(sql, "telemetry_latest", device.id) == 2

    await eventually(latest)


async def test_a_refused_message_says_why_becomes_a_dead_letter_and_holds_up_no_other(
    intake: IntakeClient, tenant_id: UUID, device: MadeDevice, sql: Sql
) -> None:
    messages = [
        telemetry(device, {"values": {"a": [1]}}),
        telemetry(device, {"values": {"a": 1}}),
        telemetry(device, b"hello"),
        Message(device.id, "v1/gateway/telemetry", b"{}"),
    ]
    outcomes = await intake.deliver(tenant_id, messages)
    assert [(o.code, o.pointer) for o in outcomes] == [
        ("unsupported_type", "/values/a"),
        ("", ""),
        ("not_json", ""),
        ("unknown_topic", ""),
    ]
    assert await count(sql, "telemetry", device.id) == 1
    assert await count(sql, "telemetry_dead_letters", device.id) == 2
    outcomes = await intake.deliver(tenant_id, messages[:1], bury=False)
    assert outcomes[0].code == "unsupported_type"
    assert await count(sql, "telemetry_dead_letters", device.id) == 2


async def test_devices_of_another_tenant_are_unknown_and_those_out_of_service_refused(
    intake: IntakeClient,
    tenant_id: UUID,
    device: MadeDevice,
    owner: Database,
    another: Any,
    sql: Sql,
) -> None:
    retired = await another(lifecycle="decommissioned")
    nobody = MadeDevice(uuid4(), "")
    outcomes = await intake.deliver(
        tenant_id, [telemetry(d, {"a": 1}) for d in (retired, nobody, device)]
    )
    assert [o.code for o in outcomes] == ["out_of_service", "unknown_device", ""]
    outcomes = await intake.deliver(await make_tenant(owner), [telemetry(device, {"a": 2})])
    assert outcomes[0].code == "unknown_device"
    assert await count(sql, "telemetry", device.id) == 1
    assert await count(sql, "telemetry", retired.id) == 0


async def test_measurements_without_a_time_get_that_of_the_first_receipt_when_told(
    intake: IntakeClient, tenant_id: UUID, device: MadeDevice, sql: Sql
) -> None:
    await intake.deliver(tenant_id, [telemetry(device, {"a": 0})])
    first = 1_740_000_000_000_000
    message = Message(device.id, topics.telemetry(device.id), b'[{"a": 1}, {"a": 2}]', first)
    for _ in range(2):
        await intake.deliver(tenant_id, [message])
    rows = await sql.fetch(
        "SELECT time FROM telemetry WHERE device_id = $1 ORDER BY time", device.id
    )
    times = [round(row["time"].timestamp() * 1_000_000) for row in rows]
    assert times[:2] == [first, first + 1]
    assert len(times) == 3


async def test_a_device_is_known_by_its_own_key_and_may_be_waited_for(
    intake: IntakeClient, tenant_id: UUID, device: MadeDevice, another: Any, sql: Sql
) -> None:
    new = await another(lifecycle="pending")
    assert (await intake.own(new.key, None, "telemetry", b'{"a": 1}')).stored
    assert (await intake.own(new.key, new.id, "attributes", b'{"v": 1}')).stored
    assert await count(sql, "telemetry", new.id) == 1
    signalled = await sql.fetchval(
        "SELECT count(*) FROM trigger_outbox WHERE tenant_id = $1 AND kind = 'signal'", tenant_id
    )
    assert signalled == 1

    async def seen() -> bool:
        row = await sql.fetchrow("SELECT connected_at, status FROM devices WHERE id = $1", new.id)
        return row["connected_at"] is not None and row["status"] == "offline"

    await eventually(seen)
    for key, claimed in (("wrong", None), (new.key, device.id), ("", None)):
        with pytest.raises(NotAuthenticatedError):
            await intake.own(key, claimed, "telemetry", b'{"a": 1}')
    assert (await intake.own(new.key, None, "nonsense", b"{}")).code == "unknown_topic"


async def test_nobody_without_the_key_gets_in_and_nonsense_is_refused(
    broker: Settings, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{broker.broker.metrics_port}{PATH}"
    right = {"authorization": f"Bearer {intake_key(broker)}"}
    assert (await http.post(url, content=b"x")).status_code == 401
    wrong = {"authorization": right["authorization"][:-1] + "!"}
    assert (await http.post(url, content=b"x", headers=wrong)).status_code == 401
    assert (await http.post(url, content=b"\xff\x00", headers=right)).status_code == 400
    assert (await http.get(url, headers=right)).status_code == 404
    with monkeypatch.context() as patch:
        patch.setattr(status, "MAX_BODY", 10)
        assert (await http.post(url, content=b"x" * 11, headers=right)).status_code == 413

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    assert (await http.post(url, content=pieces(), headers=right)).status_code == 411


async def test_a_broker_that_is_overloaded_or_down_stores_nothing_and_says_come_back(
    postgres_server: Settings,
    valkey_server: Settings,
    http: httpx.AsyncClient,
    tenant_id: UUID,
    device: MadeDevice,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with broker_running(broker_settings(postgres_server)) as broker:
        intake = IntakeClient(broker, http)
        with monkeypatch.context() as patch:
            patch.setattr(http_intake, "MAX_REQUESTS", 0)
            with pytest.raises(UnavailableError, match="slow down"):
                await intake.deliver(tenant_id, [telemetry(device, {"a": 1})])
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await intake.deliver(tenant_id, [telemetry(device, {"a": 1})])
    assert await count(sql, "telemetry", device.id) == 0


async def test_requests_at_once_for_one_device_all_arrive_and_leave_nothing_behind(
    broker: Settings, intake: IntakeClient, tenant_id: UUID, device: MadeDevice, sql: Sql
) -> None:
    await asyncio.gather(
        *(
            intake.deliver(
                tenant_id,
                [telemetry(device, {"ts": NOW_MS + 100 * r + n, "a": n}) for n in range(20)],
            )
            for r in range(10)
        )
    )
    assert await count(sql, "telemetry", device.id) == 200
    assert await metric(broker, "iotlinker_messages_committed_total") == 200


async def test_a_database_that_hangs_is_answered_in_time_and_what_was_taken_is_stored_later(
    broker: Settings,
    intake: IntakeClient,
    tenant_id: UUID,
    device: MadeDevice,
    sql: Sql,
    postgres_server: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_intake, "ANSWER", 0.5)
    message = telemetry(device, {"ts": NOW_MS, "a": 1})
    blocker = await asyncpg.connect(postgres_server.admin_database_url)
    try:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE telemetry IN EXCLUSIVE MODE")
            with pytest.raises(UnavailableError, match="send it again"):
                await intake.deliver(tenant_id, [message])
    finally:
        await blocker.close()
    assert (await intake.deliver(tenant_id, [message]))[0].stored
    assert await count(sql, "telemetry", device.id) == 1


async def test_triggers_judge_what_comes_by_http_and_remember_between_requests(
    postgres_server: Settings,
    valkey_server: Settings,
    http: httpx.AsyncClient,
    owner: Database,
    tenant_id: UUID,
    device: MadeDevice,
    sql: Sql,
) -> None:
    await publish(owner, tenant_id, HOT)

    def hot(second: int, value: float) -> Message:
        return telemetry(device, {"ts": START_MS + 1000 * second, "values": {"t": value}})

    async with broker_running(broker_settings(postgres_server)) as broker:
        intake = IntakeClient(broker, http)
        await intake.deliver(tenant_id, [hot(0, 150)], fire_triggers=False)
        assert await outbox(sql, tenant_id) == []
        # The device leaves after each request: what its trigger remembers is in the database.
        for second, value in ((1, 101), (2, 102), (3, 50), (4, 103)):
            await intake.deliver(tenant_id, [hot(second, value)])
        fired = [row["payload"]["trigger"]["value"] for row in await outbox(sql, tenant_id)]
        assert fired == [101.0, 103.0]
        assert await metric(broker, "iotlinker_triggers_fired_total") == 2
