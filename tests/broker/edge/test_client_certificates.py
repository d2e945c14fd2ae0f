"""A client certificate as a credential."""

import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from core import bus
from core.db.session import Database
from core.settings import Settings
from tests.broker.edge.conftest import SecureClient, give, showing
from tests.broker.raw import connect_packet
from tests.support.certificates import Authority
from tests.support.tenants import MadeDevice

Another = Callable[[], Awaitable[MadeDevice]]
Sql = "asyncpg.Connection[asyncpg.Record]"


async def code(client: SecureClient, username: str | None, password: str | None = None) -> int:
    """Sign in; return the code of the CONNACK."""
    await client.send(connect_packet(username, password))
    header, body = await client.packet()
    assert header == 0x20
    return body[1]


async def test_a_certificate_signs_a_device_in(
    secure_broker: Settings,
    authority: Authority,
    owner: Database,
    tenant_id: UUID,
    device: MadeDevice,
    another: Another,
) -> None:
    file, der = authority.sign("engine-1")
    await give(owner, tenant_id, device, der)
    other = await another()
    context = showing(authority, file)
    for username, expected in (
        (None, 0),
        (str(device.id), 0),
        (str(other.id), 4),
        ("no-key", 4),  # a name that is no device's is a key, as without a certificate
        (device.key, 0),
    ):
        async with SecureClient(secure_broker, context) as client:
            assert await code(client, username) == expected, username
    async with SecureClient(secure_broker, context) as client:
        assert await code(client, str(device.id), "wrong") == 4, "a password given must be right"
    async with SecureClient(secure_broker, context) as client:
        assert await code(client, str(other.id), other.key) == 0


async def test_a_certificate_that_is_nobodys_signs_nobody_in(
    secure_broker: Settings, authority: Authority, device: MadeDevice
) -> None:
    file, _ = authority.sign("stranger")
    for username in (None, str(device.id)):
        async with SecureClient(secure_broker, showing(authority, file)) as client:
            assert await code(client, username) == 4


async def test_without_a_certificate_nobody_is_anonymous(
    secure_broker: Settings, trust: ssl.SSLContext
) -> None:
    async with SecureClient(secure_broker, trust) as client:
        assert await code(client, None) == 5


@pytest.mark.parametrize("end", ["revoked_at", "expires_at"])
async def test_what_is_over_gets_code_5(
    secure_broker: Settings,
    authority: Authority,
    owner: Database,
    tenant_id: UUID,
    device: MadeDevice,
    sql: "asyncpg.Connection[asyncpg.Record]",
    end: str,
) -> None:
    file, der = authority.sign("engine-1")
    credential = await give(owner, tenant_id, device, der)
    context = showing(authority, file)
    async with SecureClient(secure_broker, context) as client:
        assert await code(client, None) == 0
        await sql.execute(
            f"UPDATE device_credentials SET {end} = now() - interval '1 s' WHERE id = $1",
            credential,
        )
        valkey = bus.connect(secure_broker)
        await valkey.publish(bus.DEVICE_DISCONNECT, str(device.id))
        await valkey.aclose()
        await client.closed()
    async with SecureClient(secure_broker, context) as client:
        assert await code(client, None) == 5


async def test_whom_nobody_vouches_for_fails_the_handshake(
    secure_broker: Settings,
    authority: Authority,
    owner: Database,
    tenant_id: UUID,
    device: MadeDevice,
) -> None:
    foreign, der = Authority(authority.file.parent, "foreign").sign("engine-1")
    await give(owner, tenant_id, device, der)
    late, late_der = authority.sign("late", lasts=timedelta(seconds=-1))
    await give(owner, tenant_id, device, late_der)
    for file in (foreign, late):
        with pytest.raises((OSError, EOFError)):  # TLS 1.3: the client learns of it when it reads
            await hello(SecureClient(secure_broker, showing(authority, file)))


async def hello(made: SecureClient) -> bytes:
    """Connect and sign in by the certificate; return the CONNACK."""
    async with made as client:
        await client.send(connect_packet(None, None))
        return await client.reader.readexactly(4)
