"""Signing in: which device is it, and may it come in?

Three ways: username = device id and password = key; username = key and no password (ThingsBoard's,
so that its devices work unmodified); or a client certificate without password, and with no username
or the device's id as such. A password given is what counts, whatever certificate comes along.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

from amqtt.mqtt.connack import BAD_USERNAME_PASSWORD, NOT_AUTHORIZED, SERVER_UNAVAILABLE

from broker.database import OUTAGE, IngestDatabase
from broker.dialects.rights import DialectTopics
from broker.lookups import Lookups
from core.crypto import device_key_digest
from core.db.repositories.ingest_devices import (
    DeviceRow,
    devices_of_certificates,
    devices_of_keys,
)
from core.topics_acl import Rights

_CACHED: Final = 50_000
_FRESH: Final = 60.0
"""Seconds a cached credential is trusted; a revocation is also told over Valkey, at once."""
_CERTIFICATE: Final = b"x509:"
"""Before the digests of certificates, where they are among those of keys."""


class RefusedError(Exception):
    """The device may not come in.

    Attributes:
        code: Return code of the CONNACK (MQTT 3.1.1, 3.2.2.3).
    """

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class Authorizer(Protocol):
    """Who may come in, and what may they do? The server is given one."""

    async def sign_in(
        self, username: str | None, password: str | None, certificate: bytes | None = None
    ) -> DeviceRow:
        """Return the device of these credentials; a certificate is in DER, and proven by TLS.

        Raises:
            RefusedError: They are wrong, void, or cannot be checked now.
        """
        ...

    def rights(self, row: DeviceRow) -> Rights:
        """Return what a device may publish and subscribe to."""
        ...


class Authenticator:
    """The product's authorizer: a key gives a device its own topics.

    Looks keys up by their SHA-256, and remembers the answers for a while.
    """

    def __init__(self, database: IngestDatabase) -> None:
        self._database = database
        self._cache: OrderedDict[bytes, tuple[float, DeviceRow]] = OrderedDict()
        self._lookups = Lookups(self._ask)

    async def sign_in(
        self, username: str | None, password: str | None, certificate: bytes | None = None
    ) -> DeviceRow:
        """Return the device of these credentials.

        Raises:
            RefusedError: They are wrong, void, or cannot be checked now.
        """
        claimed = _device_id(username)
        by_certificate = certificate is not None and not password
        if by_certificate and (not username or claimed is not None):
            row = await self._find(_certificate_digest(certificate or b""))
        elif not username:
            raise RefusedError(NOT_AUTHORIZED, "no anonymous devices")
        elif password and claimed is None:
            raise RefusedError(BAD_USERNAME_PASSWORD, "the username is no device id")
        else:
            row = await self._find(device_key_digest(password or username))
            claimed = claimed if password else None
        if row is None or (claimed is not None and row.device_id != claimed):
            raise RefusedError(BAD_USERNAME_PASSWORD, "unknown device or wrong key")
        if not row.usable or _over(row):
            raise RefusedError(NOT_AUTHORIZED, "revoked, expired or out of service")
        return row

    def rights(self, row: DeviceRow) -> Rights:
        """See `Authorizer`."""
        return DialectTopics(row)

    def forget(self, device_id: UUID) -> None:
        """Drop what is remembered of a device."""
        for digest in [d for d, (_, row) in self._cache.items() if row.device_id == device_id]:
            del self._cache[digest]

    def forget_all(self) -> None:
        """Drop everything: notifications may have been missed."""
        self._cache.clear()

    async def _find(self, digest: bytes) -> DeviceRow | None:
        known = self._cache.get(digest)
        if known is not None and time.monotonic() - known[0] < _FRESH:
            self._cache.move_to_end(digest)
            return known[1]
        try:
            row = await self._lookups.get(digest)
        except OUTAGE as error:
            raise RefusedError(SERVER_UNAVAILABLE, f"the database is down: {error!r}") from error
        # Only what may come in is remembered: the unknown would let anybody fill the cache.
        if row is not None and row.usable:
            self._cache[digest] = (time.monotonic(), row)
            self._cache.move_to_end(digest)
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return row

    async def _ask(self, digests: list[bytes]) -> Mapping[bytes, DeviceRow]:
        keys = [digest for digest in digests if not digest.startswith(_CERTIFICATE)]
        certificates = [digest for digest in digests if digest.startswith(_CERTIFICATE)]
        found: dict[bytes, DeviceRow] = {}
        async with self._database.connection() as connection:
            if keys:
                found = await devices_of_keys(connection, keys)
            if certificates:
                plain = [digest.removeprefix(_CERTIFICATE) for digest in certificates]
                rows = await devices_of_certificates(connection, plain)
                found |= {_CERTIFICATE + digest: row for digest, row in rows.items()}
        return found


def _certificate_digest(certificate: bytes) -> bytes:
    return _CERTIFICATE + hashlib.sha256(certificate).digest()


def _device_id(username: str | None) -> UUID | None:
    try:
        return UUID(username) if username else None
    except ValueError:
        return None


def _over(row: DeviceRow) -> bool:
    # A remembered answer says what held when it was given; a rotated key ends meanwhile.
    return row.expires_at is not None and row.expires_at <= datetime.now(UTC)
