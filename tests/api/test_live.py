"""WebSockets on a real server."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from api.live.frames import Bundle, Channel
from api.live.outlet import Outlet
from api.main import server
from api.metrics import Metrics
from api.security.tokens import Tokens
from core import bus as channels
from core.db.repositories.identity import Grants
from core.db.session import Database
from core.settings import Settings
from tests.api.conftest import Enter, Person
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant
from tests.support.waiting import eventually


@pytest.fixture
async def address(postgres_server: Settings, valkey_server: Settings) -> AsyncIterator[str]:
    """The address of a running server."""
    uvicorn = server(postgres_server)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(uvicorn.serve())
        await eventually(lambda: uvicorn.started)
        yield f"ws://{postgres_server.api.host}:{postgres_server.api.port}"
        uvicorn.should_exit = True
        await serving


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    """A device in service."""
    return await make_device(owner, tenant_id, await make_profile(owner, tenant_id))


async def _receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        return json.loads(await socket.recv())


@asynccontextmanager
async def _signed_in(address: str, path: str, person: Person) -> AsyncGenerator[ClientConnection]:
    bearer = {"authorization": f"Bearer {person.access_token}"}
    async with connect(f"{address}{path}", additional_headers=bearer) as socket:
        yield socket


async def _subscribe(socket: ClientConnection, channel: str, **payload: object) -> dict[str, Any]:
    await socket.send(json.dumps({"type": "subscribe", "channel": channel, "payload": payload}))
    return await _receive(socket)


def _reading(device_id: UUID, number: float) -> dict[str, Any]:
    return {
        "device_id": str(device_id),
        "timestamp": "2025-03-01T10:00:00.000Z",
        "metrics": {"temperature": number},
    }


async def test_a_subscriber_gets_each_measurement_of_its_device_and_no_other(
    address: str, admin: Person, device: MadeDevice, bus: Redis
) -> None:
    async with _signed_in(address, "/ws/device-data", admin) as socket:
        answer = await _subscribe(socket, "device-data", device_id=str(device.id))
        assert answer["type"] == "subscribe"
        assert answer["payload"] == {"device_id": str(device.id)}
        await bus.publish(channels.telemetry(uuid4()), json.dumps([_reading(uuid4(), 9)]))
        readings = [_reading(device.id, 1.5), _reading(device.id, 2.5)]
        await bus.publish(channels.telemetry(device.id), json.dumps(readings))
        got = [await _receive(socket), await _receive(socket)]
    assert [message["payload"] for message in got] == readings
    assert {(m["type"], m["channel"]) for m in got} == {("data", "device-data")}
    assert got[0]["timestamp"].endswith("Z")


async def test_after_unsubscribing_nothing_comes(
    address: str, admin: Person, device: MadeDevice, bus: Redis
) -> None:
    async with _signed_in(address, "/ws/device-data", admin) as socket:
        await _subscribe(socket, "device-data", device_id=str(device.id))
        payload = {"device_id": str(device.id)}
        await socket.send(
            json.dumps({"type": "unsubscribe", "channel": "device-data", "payload": payload})
        )
        assert (await _receive(socket))["type"] == "unsubscribe"
        listeners = await bus.pubsub_numsub(channels.telemetry(device.id))
        assert listeners[0][1] == 0


@pytest.mark.parametrize("way", ["header", "subprotocol", "message"])
async def test_a_client_signs_in_by_header_subprotocol_or_first_message(
    address: str, admin: Person, device: MadeDevice, way: str
) -> None:
    token = admin.access_token
    more: dict[str, Any] = {
        "header": {"additional_headers": {"authorization": f"Bearer {token}"}},
        "subprotocol": {"subprotocols": ["iotlinker.bearer", token]},
        "message": {},
    }[way]
    async with connect(f"{address}/ws/device-data", **more) as socket:
        if way == "subprotocol":
            assert socket.subprotocol == "iotlinker.bearer"
        if way == "message":
            await socket.send(json.dumps({"type": "auth", "payload": {"token": token}}))
            assert (await _receive(socket))["type"] == "auth"
        answer = await _subscribe(socket, "device-data", device_id=str(device.id))
    assert answer["type"] == "subscribe"


@pytest.mark.parametrize(
    "first",
    ['{"type": "auth", "payload": {"token": "x"}}', '{"type": "subscribe"}', "{", b"\x00", "[]"],
)
async def test_who_does_not_sign_in_is_sent_away(address: str, first: str | bytes) -> None:
    async with connect(f"{address}/ws/device-data") as socket:
        await socket.send(first)
        assert (await _receive(socket))["type"] == "error"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_a_token_in_the_address_is_not_looked_at(address: str, admin: Person) -> None:
    async with connect(f"{address}/ws/device-data?token={admin.access_token}") as socket:
        await socket.send('{"type": "subscribe", "channel": "device-data"}')
        assert (await _receive(socket))["payload"]["code"] == "not_authenticated"


async def test_another_tenants_device_cannot_be_subscribed_to(
    address: str, admin: Person, owner: Database
) -> None:
    other = await make_tenant(owner)
    theirs = await make_device(owner, other, await make_profile(owner, other))
    async with _signed_in(address, "/ws/device-data", admin) as socket:
        answer = await _subscribe(socket, "device-data", device_id=str(theirs.id))
    assert answer["type"] == "error"
    assert answer["payload"]["code"] == "not_found"


async def test_a_subscription_needs_its_permission(
    address: str, enter: Enter, tenant_id: UUID, device: MadeDevice
) -> None:
    nobody = await enter(tenant_id, None)
    async with _signed_in(address, "/ws/device-data", nobody) as socket:
        answer = await _subscribe(socket, "device-data", device_id=str(device.id))
    assert answer["payload"]["code"] == "permission_denied"


async def test_a_message_that_is_not_understood_is_answered_and_the_connection_lives(
    address: str, admin: Person, device: MadeDevice
) -> None:
    async with _signed_in(address, "/ws/device-data", admin) as socket:
        for bad in (
            "{",
            '{"type": "dance"}',
            '{"type": "subscribe", "channel": "device-data"}',
            '{"type": "subscribe", "channel": "alerts"}',
            b"\xff\x00",
        ):
            await socket.send(bad)
            assert (await _receive(socket))["type"] == "error"
        answer = await _subscribe(socket, "device-data", device_id=str(device.id))
        assert answer["type"] == "subscribe"


async def test_alerts_and_the_dashboard_get_the_tenants_events_only(
    address: str, admin: Person, bus: Redis
) -> None:
    alert = {"type": "alert", "alert_id": str(uuid4()), "severity": "critical", "message": "hot"}
    run = {"type": "run", "status": "failed"}
    async with (
        _signed_in(address, "/ws/alerts", admin) as alerts,
        _signed_in(address, "/ws/dashboard", admin) as dashboard,
    ):
        await _subscribe(alerts, "alerts")
        await _subscribe(dashboard, "dashboard")
        await bus.publish(channels.dashboard(uuid4()), json.dumps(alert))
        mine = channels.dashboard(admin.tenant_id)
        await bus.publish(mine, json.dumps(run))
        await bus.publish(mine, json.dumps(alert))
        got = await _receive(alerts)
        assert (got["type"], got["payload"]) == ("alert", alert)
        assert [(await _receive(dashboard))["payload"] for _ in range(2)] == [run, alert]


@pytest.mark.slow
async def test_the_connection_ends_with_its_token(
    address: str, admin: Person, settings: Settings
) -> None:
    tokens = Tokens(settings)
    tokens.access_seconds = 1
    short = tokens.issue_access(
        user_id=admin.user_id,
        tenant_id=admin.tenant_id,
        organization_id=admin.tenant_id,
        session_id=admin.session_id,
        grants=Grants((), ("telemetry:read",)),
    )
    async with connect(f"{address}/ws/device-data") as socket:
        await socket.send(json.dumps({"type": "auth", "payload": {"token": short}}))
        assert (await _receive(socket))["type"] == "auth"
        assert (await _receive(socket))["payload"]["code"] == "token_expired"
        with pytest.raises(ConnectionClosed):
            await socket.recv()


async def test_a_newer_token_keeps_the_connection(
    address: str, admin: Person, settings: Settings
) -> None:
    async with _signed_in(address, "/ws/device-data", admin) as socket:
        fresh = {"type": "auth", "payload": {"token": admin.access_token}}
        await socket.send(json.dumps(fresh))
        assert (await _receive(socket))["type"] == "auth"


@pytest.mark.slow
async def test_subscriptions_outlive_a_lost_connection_to_valkey(
    address: str, admin: Person, device: MadeDevice, bus: Redis
) -> None:
    async with _signed_in(address, "/ws/device-data", admin) as socket:
        await _subscribe(socket, "device-data", device_id=str(device.id))
        await bus.client_kill_filter(_type="pubsub")

        async def resubscribed() -> bool:
            counts = await bus.pubsub_numsub(channels.telemetry(device.id))
            return counts[0][1] == 1

        await eventually(resubscribed)
        reading = _reading(device.id, 3)
        await bus.publish(channels.telemetry(device.id), json.dumps([reading]))
        assert (await _receive(socket))["payload"] == reading


async def test_a_slow_client_loses_the_oldest_and_is_told_how_many() -> None:
    outlet = Outlet(Metrics(), capacity=3)
    for number in range(5):
        outlet.offer(str(number))
    first, *rest = await outlet.take()
    told = json.loads(first)
    assert (told["type"], told["payload"]["code"]) == ("error", "lagging")
    assert told["payload"]["dropped"] == 2
    assert rest == ["2", "3", "4"]
    outlet.offer("5")
    assert await outlet.take() == ["5"]


async def test_of_a_burst_of_measurements_the_newest_are_kept_and_the_lost_are_counted() -> None:
    def burst(*numbers: int) -> Bundle:
        points = [{"device_id": "d", "metrics": {"n": number}} for number in numbers]
        return Bundle(Channel.DEVICE_DATA, json.dumps(points).encode())

    outlet = Outlet(Metrics(), capacity=4)
    for numbers in ((1, 2, 3), (4, 5), (6, 7)):
        outlet.offer(burst(*numbers))
    first, *rest = [json.loads(frame) for frame in await outlet.take()]
    assert first["payload"]["dropped"] == 3
    assert [frame["payload"]["metrics"]["n"] for frame in rest] == [4, 5, 6, 7]
    outlet.offer(burst(*range(9)))  # longer than there is room for: still one message of the bus
    assert len(await outlet.take()) == 9


async def test_measurements_stored_together_come_as_one_message_when_asked_for(
    address: str, admin: Person, device: MadeDevice, bus: Redis
) -> None:
    async with _signed_in(address, "/ws/device-data", admin) as socket:
        await _subscribe(socket, "device-data", device_id=str(device.id), batch=True)
        readings = [_reading(device.id, number) for number in range(3)]
        await bus.publish(channels.telemetry(device.id), b"not json")
        await bus.publish(channels.telemetry(device.id), json.dumps(readings))
        message = await _receive(socket)
        assert (message["type"], message["channel"]) == ("batch", "device-data")
        assert message["payload"] == readings


async def test_a_message_of_the_bus_that_is_malformed_stops_nothing(
    address: str, admin: Person, device: MadeDevice, bus: Redis
) -> None:
    async with _signed_in(address, "/ws/device-data", admin) as socket:
        await _subscribe(socket, "device-data", device_id=str(device.id))
        await bus.publish(channels.telemetry(device.id), b"not json")
        reading = _reading(device.id, 1)
        await bus.publish(channels.telemetry(device.id), json.dumps([reading]))
        assert (await _receive(socket))["payload"] == reading
