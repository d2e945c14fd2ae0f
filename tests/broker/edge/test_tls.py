"""MQTT over TLS: versions, renewed certificates, and what is no TLS at all."""

import asyncio
import os
import shutil
import signal
import ssl
import warnings

import pytest

from core.settings import Settings
from core.settings.processes import BrokerSettings
from tests.broker.edge.conftest import SecureClient
from tests.broker.raw import RawClient, publish_packet, telemetry_topic
from tests.support.certificates import Authority
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_messages_are_acknowledged_over_either_version(
    secure_broker: Settings,
    trust: ssl.SSLContext,
    device: MadeDevice,
    version: ssl.TLSVersion,
) -> None:
    trust.minimum_version = trust.maximum_version = version
    async with SecureClient(secure_broker, trust) as client:
        assert await client.sign_in(device) == 0
        await client.send(publish_packet(telemetry_topic(device), b'{"values": {"a": 1}}'))
        assert await client.packet() == (0x40, b"\0\1")


async def test_older_versions_are_refused(secure_broker: Settings, trust: ssl.SSLContext) -> None:
    # Without weaker security OpenSSL would not even offer it, and the test would prove nothing.
    trust.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        trust.minimum_version = ssl.TLSVersion.TLSv1
        trust.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):  # which one depends on the moment
        async with SecureClient(secure_broker, trust):
            pass


async def test_plain_bytes_at_the_tls_port_disturb_nobody(
    secure_broker: Settings, trust: ssl.SSLContext, device: MadeDevice
) -> None:
    port = secure_broker.broker.tls_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0")
    async with asyncio.timeout(10):
        assert b"\x20" not in (await reader.read())[:1]  # at most a TLS alert
    writer.transport.abort()
    async with SecureClient(secure_broker, trust) as client:
        assert await client.sign_in(device) == 0


async def test_a_handshake_that_hangs_holds_up_nobody(
    secure_broker: Settings, trust: ssl.SSLContext, device: MadeDevice
) -> None:
    port = secure_broker.broker.tls_port
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
    async with SecureClient(secure_broker, trust) as client:
        assert await client.sign_in(device) == 0
    for _, writer in silent:
        writer.transport.abort()


async def test_a_renewed_certificate_is_used_and_connections_stay(
    secure_broker: Settings, authority: Authority, trust: ssl.SSLContext, device: MadeDevice
) -> None:
    file = secure_broker.broker.tls_certificate_file
    assert file is not None

    async def shown() -> bytes | None:
        async with SecureClient(secure_broker, trust) as client:
            tls = client.writer.get_extra_info("ssl_object")
            return tls.getpeercert(binary_form=True)

    async with SecureClient(secure_broker, trust) as old:
        assert await old.sign_in(device) == 0
        renewed, der = authority.sign("127.0.0.1")
        assert await shown() != der
        shutil.copy(renewed, file)
        os.kill(os.getpid(), signal.SIGHUP)

        async def is_new() -> bool:
            return await shown() == der

        await eventually(is_new)
        file.write_text("damaged")
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        assert await shown() == der, "damaged files must not replace good ones"
        await old.nothing()


async def test_the_plain_port_stays(secure_broker: Settings, device: MadeDevice) -> None:
    async with RawClient(secure_broker) as client:
        assert await client.sign_in(device) == 0


def test_a_port_for_tls_needs_files() -> None:
    with pytest.raises(ValueError, match="IOTLINKER_BROKER_TLS_CERTIFICATE_FILE"):
        BrokerSettings(tls_port=8883)


async def test_devices_are_told_the_secure_address(secure_broker: Settings) -> None:
    assert secure_broker.mqtt_endpoint == f"mqtts://127.0.0.1:{secure_broker.broker.tls_port}"
