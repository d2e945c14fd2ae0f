"""Keys and certificates of devices: replaced without a gap, listed without a secret, revoked."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from redis.asyncio import Redis

from core import bus as channels
from core.crypto import device_key_digest
from core.db.repositories.ingest_devices import devices_of_certificates, devices_of_keys
from core.db.session import Database
from core.settings import Settings
from tests.api.conftest import Enter, Person
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant
from tests.support.waiting import eventually

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def made(owner: Database, tenant_id: UUID) -> MadeDevice:
    """A device with a key."""
    return await make_device(owner, tenant_id, await make_profile(owner, tenant_id))


@pytest.fixture
async def sql(postgres_server: Settings) -> Any:
    """PostgreSQL as the administrator."""
    connection = await asyncpg.connect(postgres_server.admin_database_url, timeout=10)
    yield connection
    await connection.close(timeout=10)


@pytest.fixture
async def ingest(postgres_server: Settings) -> Any:
    """PostgreSQL as the broker sees it."""
    connection = await asyncpg.connect(postgres_server.database_url("ingest"), timeout=10)
    yield connection
    await connection.close(timeout=10)


def certificate(
    *,
    key: Any = None,
    days: float = 30,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    name: str = "pump-1",
) -> x509.Certificate:
    """Return a self-signed certificate."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def path(device: MadeDevice) -> str:
    return f"/api/v1/devices/{device.id}/credentials"


async def listed(client: httpx.AsyncClient, device: MadeDevice) -> list[dict[str, Any]]:
    answer = await client.get(path(device))
    assert answer.status_code == 200, answer.text
    return answer.json()["credentials"]


async def usable(ingest: Sql, key: str) -> bool:
    digest = device_key_digest(key)
    row = (await devices_of_keys(ingest, [digest])).get(digest)
    return row is not None and row.usable


async def test_with_an_overlap_the_old_key_is_good_beside_the_new_one_until_it_ends(
    client: httpx.AsyncClient, made: MadeDevice, ingest: Sql, sql: Sql
) -> None:
    answer = await client.post(f"{path(made)}/rotate", json={"overlap": "PT1H"})
    assert answer.status_code == 200, answer.text
    fresh = answer.json()["device_key"]
    assert await usable(ingest, fresh)
    assert await usable(ingest, made.key)
    new, old = await listed(client, made)
    assert (new["state"], new["expires_at"]) == ("valid", None)
    ends = datetime.fromisoformat(old["expires_at"])
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1)

    await sql.execute(
        "UPDATE device_credentials SET expires_at = now() - interval '1 s' WHERE key_sha256 = $1",
        device_key_digest(made.key),
    )
    assert not await usable(ingest, made.key)
    assert await usable(ingest, fresh)
    assert [row["state"] for row in await listed(client, made)] == ["valid", "expired"]


async def test_a_second_rotation_lets_no_key_live_longer(
    client: httpx.AsyncClient, made: MadeDevice
) -> None:
    await client.post(f"{path(made)}/rotate", json={"overlap": "PT1H"})
    await client.post(f"{path(made)}/rotate", json={"overlap": "P7D"})
    ends = [row["expires_at"] for row in await listed(client, made)]
    assert ends[0] is None
    assert datetime.fromisoformat(ends[1]) > datetime.now(UTC) + timedelta(days=6)
    assert datetime.fromisoformat(ends[2]) < datetime.now(UTC) + timedelta(hours=2)


async def test_without_an_overlap_the_old_key_ends_at_once_and_the_broker_is_told(
    client: httpx.AsyncClient, made: MadeDevice, ingest: Sql, bus: Redis
) -> None:
    async with bus.pubsub(ignore_subscribe_messages=True) as notices:
        await notices.subscribe(channels.DEVICE_DISCONNECT)
        fresh = (await client.post(f"{path(made)}/rotate")).json()["device_key"]

        async def told() -> bool:
            message = await notices.get_message(timeout=1)
            return message is not None and message["data"].decode() == str(made.id)

        await eventually(told)
    assert await usable(ingest, fresh)
    assert not await usable(ingest, made.key)


@pytest.mark.parametrize("overlap", ["", "PT0S", "P91D", "P1M", "3600", 60])
async def test_an_overlap_that_is_no_duration_or_too_long_is_refused(
    client: httpx.AsyncClient, made: MadeDevice, overlap: object
) -> None:
    answer = await client.post(f"{path(made)}/rotate", json={"overlap": overlap})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/overlap"]
    assert [row["state"] for row in await listed(client, made)] == ["valid"]


async def test_no_listing_shows_a_key_or_what_it_is_stored_as(
    client: httpx.AsyncClient, made: MadeDevice
) -> None:
    fresh = (await client.post(f"{path(made)}/rotate", json={"overlap": "PT1H"})).json()
    shown = (await client.get(path(made))).text
    for key in (made.key, fresh["device_key"]):
        assert key not in shown
        assert device_key_digest(key).hex() not in shown


async def test_a_certificate_is_known_by_its_fingerprint_and_ends_when_it_says(
    client: httpx.AsyncClient, made: MadeDevice, ingest: Sql, tenant_id: UUID
) -> None:
    own = certificate()
    answer = await client.post(f"{path(made)}/certificates", json={"certificate": pem(own)})
    assert answer.status_code == 201, answer.text
    view = answer.json()
    digest = own.fingerprint(hashes.SHA256())
    assert view["certificate_sha256"] == digest.hex()
    assert view["subject"] == "CN=pump-1"
    assert datetime.fromisoformat(view["expires_at"]) == own.not_valid_after_utc
    assert (view["kind"], view["state"]) == ("x509", "valid")
    row = (await devices_of_certificates(ingest, [digest])).get(digest)
    assert row is not None
    assert (row.device_id, row.tenant_id, row.usable) == (made.id, tenant_id, True)
    assert row.expires_at == own.not_valid_after_utc
    assert await devices_of_certificates(ingest, [bytes(32)]) == {}
    await client.post(f"{path(made)}/rotate")
    row = (await devices_of_certificates(ingest, [digest])).get(digest)
    assert row is not None
    assert row.usable, "rotating concerns keys"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no PEM", "no X.509"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no X.509"),
        ("\ud800", "no X.509"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"),
        (lambda: pem(certificate()) * 2, "2 certificates"),
        (lambda: pem(certificate(days=-1)), "ended"),
        (lambda: pem(certificate(usage=ExtendedKeyUsageOID.SERVER_AUTH)), "not meant for clients"),
        (lambda: pem(certificate(key=rsa.generate_private_key(65537, 1024))), "1024 bits"),
    ],
)
async def test_what_is_no_usable_certificate_is_refused_with_the_reason(
    client: httpx.AsyncClient, made: MadeDevice, text: Any, why: str
) -> None:
    form = {"certificate": text() if callable(text) else text}
    if text == "\ud800":  # httpx would not encode it
        answer = await client.post(
            f"{path(made)}/certificates",
            content=b'{"certificate": "\\ud800"}',
            headers={"content-type": "application/json"},
        )
    else:
        answer = await client.post(f"{path(made)}/certificates", json=form)
    assert answer.status_code == 422, answer.text
    error = answer.json()["errors"][0]
    assert error["pointer"] == "/certificate"
    if text != "\ud800":
        assert why in error["message"]


async def test_a_certificate_is_one_devices_and_stays_revoked(
    client: httpx.AsyncClient, owner: Database, made: MadeDevice, enter: Enter, ingest: Sql
) -> None:
    own = certificate()
    form = {"certificate": pem(own)}
    first = await client.post(f"{path(made)}/certificates", json=form)
    other = await make_tenant(owner)
    theirs = await make_device(owner, other, await make_profile(owner, other))
    stranger = (await enter(other)).client
    assert (await stranger.post(f"{path(theirs)}/certificates", json=form)).status_code == 409
    answer = await client.delete(f"{path(made)}/{first.json()['id']}")
    assert answer.status_code == 204
    assert (await client.post(f"{path(made)}/certificates", json=form)).status_code == 409
    digest = own.fingerprint(hashes.SHA256())
    row = (await devices_of_certificates(ingest, [digest])).get(digest)
    assert row is not None
    assert (row.device_id, row.usable) == (made.id, False)


async def test_revoking_one_leaves_the_others_and_tells_the_broker(
    admin: Person, made: MadeDevice, ingest: Sql, bus: Redis
) -> None:
    client = admin.client
    fresh = (await client.post(f"{path(made)}/rotate", json={"overlap": "PT1H"})).json()
    old = (await listed(client, made))[1]
    async with bus.pubsub(ignore_subscribe_messages=True) as notices:
        await notices.subscribe(channels.DEVICE_DISCONNECT)
        assert (await client.delete(f"{path(made)}/{old['id']}")).status_code == 204

        async def told() -> bool:
            message = await notices.get_message(timeout=1)
            return message is not None and message["data"].decode() == str(made.id)

        await eventually(told)
    assert not await usable(ingest, made.key)
    assert await usable(ingest, fresh["device_key"])
    audit = await client.get("/api/v1/audit", params={"resource_id": str(made.id)})
    assert [(e["action"], e["details"]) for e in audit.json()["entries"]] == [
        ("device.credential_revoked", {"credential_id": old["id"], "kind": "key"}),
        ("device.credentials_rotated", {"overlap": "PT1H"}),
    ]


async def test_a_device_has_a_bounded_number_of_valid_credentials(
    client: httpx.AsyncClient, made: MadeDevice
) -> None:
    form = {"overlap": "PT1H"}
    answers = [(await client.post(f"{path(made)}/rotate", json=form)) for _ in range(10)]
    assert [a.status_code for a in answers] == [200] * 9 + [409]
    certificate_form = {"certificate": pem(certificate())}
    refused = await client.post(f"{path(made)}/certificates", json=certificate_form)
    assert refused.status_code == 409


async def test_credentials_are_their_tenants_and_permission_is_needed(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, enter: Enter, made: MadeDevice
) -> None:
    own = (await listed(client, made))[0]
    stranger = (await enter(await make_tenant(owner))).client
    reader = (await enter(tenant_id, "end_user")).client
    form = {"certificate": pem(certificate())}
    for someone, status in ((stranger, 404), (reader, 403)):
        tried = [
            await someone.post(f"{path(made)}/rotate"),
            await someone.post(f"{path(made)}/certificates", json=form),
            await someone.delete(f"{path(made)}/{own['id']}"),
            await someone.delete(path(made)),
        ]
        assert [answer.status_code for answer in tried] == [status] * len(tried)
    assert (await stranger.get(path(made))).status_code == 404
    assert (await reader.get(path(made))).status_code == 200
    assert (await client.delete(f"{path(made)}/{uuid4()}")).status_code == 404
    assert [row["state"] for row in await listed(client, made)] == ["valid"]
