"""MQTT over WebSocket."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from uuid import UUID

import aiomqtt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from broker.mqtt.websocket import MAX_FRAME
from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings
from tests.broker.raw import connect_packet, publish_packet, telemetry_topic
from tests.support.servers import free_port
from tests.support.tenants import MadeDevice

MQTT = [Subprotocol("mqtt")]


def dial(settings: Settings, path: str = "/mqtt", origin: str | None = None) -> connect:
    """Return a connection to the plain WebSocket port."""
    port = settings.broker.websocket_port
    return connect(
        f"ws://127.0.0.1:{port}{path}",
        subprotocols=MQTT,
        proxy=None,
        origin=None if origin is None else Origin(origin),
    )


async def sign_in(socket: ClientConnection, device: MadeDevice) -> None:
    """Sign in by one frame."""
    await socket.send(connect_packet(str(device.id), device.key))
    assert await read(socket, 4) == b"\x20\x02\0\0"


async def read(socket: ClientConnection, size: int) -> bytes:
    """Return that many bytes of the stream."""
    data = b""
    async with asyncio.timeout(10):
        while len(data) < size:
            data += await socket.recv(decode=False)
    return data


@pytest.mark.parametrize("secure", [False, True])
async def test_paho_works_over_it(
    secure_broker: Settings, device: MadeDevice, trust: ssl.SSLContext, secure: bool
) -> None:
    broker = secure_broker.broker
    port = broker.websocket_tls_port if secure else broker.websocket_port
    assert port is not None
    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        username=str(device.id),
        password=device.key,
        transport="websockets",
        tls_context=trust if secure else None,
        timeout=10,
    ) as client:
        await client.subscribe(f"v1/devices/{device.id}/commands/+", qos=1)
        long = b'{"values": {"a": 1}, "note": "%s"}' % (b"x" * 100_000)
        await client.publish(f"v1/devices/{device.id}/attributes", long, qos=1)
        await client.publish(telemetry_topic(device), b'{"values": {"a": 1}}', qos=1)


async def test_packets_may_span_frames_and_fragments(
    secure_broker: Settings, device: MadeDevice
) -> None:
    async with dial(secure_broker) as socket:
        sent = connect_packet(str(device.id), device.key) + publish_packet(
            telemetry_topic(device), b'{"values": {"a": 1}}'
        )
        await socket.send(sent[:7])
        await socket.send(b"")
        await socket.send(iter([sent[7:9], sent[9:40], sent[40:]]))  # one message, three fragments
        assert await read(socket, 8) == b"\x20\x02\0\0\x40\x02\0\1"


async def test_text_frames_are_refused(secure_broker: Settings, device: MadeDevice) -> None:
    async with dial(secure_broker) as socket:
        await sign_in(socket, device)
        await socket.send("text")
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1003


async def test_messages_that_are_too_long_are_refused(
    secure_broker: Settings, device: MadeDevice
) -> None:
    async with dial(secure_broker) as socket:
        await sign_in(socket, device)
        with contextlib.suppress(ConnectionClosed):
            await socket.send(bytes(MAX_FRAME + 1))
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


async def test_pings_are_answered(secure_broker: Settings, device: MadeDevice) -> None:
    async with dial(secure_broker) as socket:
        await sign_in(socket, device)
        async with asyncio.timeout(10):
            await (await socket.ping())


async def test_an_end_by_the_broker_is_an_orderly_close(
    secure_broker: Settings, device: MadeDevice
) -> None:
    async with dial(secure_broker) as socket:
        await sign_in(socket, device)
        await socket.send(b"\xe0\x00")
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000


@pytest.fixture
async def listed(postgres_server: Settings, valkey_server: Settings) -> AsyncIterator[Settings]:
    """A broker that lets pages of one more origin in."""
    changes = {"websocket_port": free_port(), "websocket_origins": ["https://app.example"]}
    async with broker_running(broker_settings(postgres_server, **changes)) as settings:
        yield settings


async def test_pages_of_other_origins_are_refused(listed: Settings, tenant_id: UUID) -> None:
    port = listed.broker.websocket_port
    for origin in (None, f"http://127.0.0.1:{port}", "https://app.example"):
        async with dial(listed, origin=origin):
            pass
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{port}.evil.example"):
        with pytest.raises(InvalidStatus) as caught:
            async with dial(listed, origin=origin):
                pass
        assert caught.value.response.status_code == 403


async def test_other_paths_and_protocols_are_refused(listed: Settings) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with dial(listed, path="/other"):
            pass
    assert caught.value.response.status_code == 404
    with pytest.raises(InvalidStatus) as caught:
        async with connect(f"ws://127.0.0.1:{listed.broker.websocket_port}/mqtt", proxy=None):
            pass
    assert caught.value.response.status_code == 400


async def test_bytes_that_are_no_request_are_cut_off(listed: Settings) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listed.broker.websocket_port)
    writer.write(b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0\r\n\r\n")
    async with asyncio.timeout(10):
        await reader.read()
    writer.transport.abort()
