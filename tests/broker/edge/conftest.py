"""A broker with every kind of door, and clients for them."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self
from uuid import UUID

import pytest

from core.db.session import Database
from core.db.tables import DeviceCredential
from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings
from tests.broker.mqtt.client import Client
from tests.support.certificates import Authority
from tests.support.servers import free_port
from tests.support.tenants import MadeDevice


class SecureClient(Client):
    """A client by TLS."""

    def __init__(
        self, settings: Settings, context: ssl.SSLContext, port: int | None = None
    ) -> None:
        super().__init__(settings)
        self._context = context
        self._tls_port = port or settings.broker.tls_port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._tls_port, ssl=self._context
        )
        return self


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signed the broker's certificate, and may sign devices'."""
    return Authority(tmp_path)


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    """A client's context that trusts the broker."""
    return ssl.create_default_context(cafile=str(authority.file))


def showing(authority: Authority, file: Path) -> ssl.SSLContext:
    """Return a client's context that shows a certificate."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.load_cert_chain(file)
    return context


@pytest.fixture
async def secure_broker(
    postgres_server: Settings, valkey_server: Settings, authority: Authority
) -> AsyncIterator[Settings]:
    """A broker with TLS and WebSocket, by a certificate of the authority."""
    file, _ = authority.sign("127.0.0.1")
    changes = {
        "tls_port": free_port(),
        "websocket_port": free_port(),
        "websocket_tls_port": free_port(),
        "tls_certificate_file": file,
        "tls_key_file": file,
        "tls_client_ca_file": authority.file,
    }
    async with broker_running(broker_settings(postgres_server, **changes)) as settings:
        yield settings


async def give(owner: Database, tenant_id: UUID, device: MadeDevice, certificate: bytes) -> UUID:
    """Make a certificate a credential of a device; return the credential's id."""
    row = DeviceCredential(
        tenant_id=tenant_id,
        device_id=device.id,
        kind="x509",
        certificate_sha256=hashlib.sha256(certificate).digest(),
        subject="CN=test",
    )
    async with owner.transaction(tenant_id) as session:
        session.add(row)
        await session.flush()
        return row.id
