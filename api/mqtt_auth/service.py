"""Whether a device may come in at another broker, and what it may use there.

The rules are those of our own broker (`core.topics_acl`), but for `v1/devices/me/…`: there nothing
but the topic tells ingest whose a message is.
"""

import asyncio
import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from api.mqtt_auth.requests import Question
from api.security.throttle import TooManyRequestsError
from core.crypto import device_key_digest
from core.db.repositories.mqtt_auth import KnownDevice, device_of_key
from core.db.session import Database
from core.settings.processes import IngestSettings
from core.topics import PREFIX
from core.topics_acl import Grant, Topics

_LOOKUPS: Final = 4  # at once, so that a storm of reconnects leaves connections to people
_WAITING: Final = 256
"""Questions that wait for a look at the database; more are sent away, to be asked again."""
_CACHED: Final = 10_000
_FRESH: Final = 30.0  # seconds for which the device of a username that is a key is remembered
_ME: Final = f"{PREFIX}me/"
_READ, _WRITE, _BOTH, _SUBSCRIBE = 1, 2, 3, 4  # mosquitto's access


@dataclass(frozen=True, slots=True)
class Admission:
    """An answer to a sign-in.

    Attributes:
        superuser: It is ingest itself, which may use every topic.
        expires_at: When the credential ends by itself.
    """

    allowed: bool
    superuser: bool = False
    expires_at: datetime | None = None


class Gate:
    """Answers for one API process."""

    def __init__(self, database: Database, ingest: IngestSettings) -> None:
        self._database = database
        self._ingest = ingest
        self._lookups = asyncio.Semaphore(_LOOKUPS)
        self._waiting = 0
        self._names: OrderedDict[bytes, tuple[float, UUID]] = OrderedDict()

    async def admit(self, question: Question) -> Admission:
        """Judge a sign-in: device id and key, or the key alone as username.

        Raises:
            TooManyRequestsError: Too many are waiting.
        """
        username, password = question.username, question.password
        if not username:
            return Admission(allowed=False)
        if self.is_ingest(username):
            secret = self._ingest.password
            known = secret is not None and hmac.compare_digest(
                (password or "").encode(), secret.get_secret_value().encode()
            )
            return Admission(allowed=known, superuser=known)
        claimed = _uuid(username) if password else None
        if password and claimed is None:
            return Admission(allowed=False)
        device = await self._find(device_key_digest(password or username))
        if device is None or not device.usable:
            return Admission(allowed=False)
        if claimed is not None and claimed != device.device_id:
            return Admission(allowed=False)
        return Admission(allowed=True, expires_at=device.expires_at)

    def is_ingest(self, username: str | None) -> bool:
        """Tell whether this is the name that ingest signs in with."""
        return bool(username) and username == self._ingest.username

    async def allows(self, question: Question) -> bool:
        """Judge the use of a topic or filter by who has signed in as `username`.

        Raises:
            TooManyRequestsError: Too many are waiting.
        """
        if self.is_ingest(question.username):
            return True
        access = {"publish": _WRITE, "subscribe": _SUBSCRIBE}.get(question.action, question.acc)
        if access not in (_READ, _WRITE, _BOTH, _SUBSCRIBE) or question.topic.startswith(_ME):
            return False
        device_id = await self._named(question.username)
        if device_id is None:
            return False
        topics = Topics(device_id)
        writes = access in (_WRITE, _BOTH)
        reads = access in (_READ, _BOTH, _SUBSCRIBE)
        return not (
            (writes and topics.route(question.topic.encode("utf-8", "replace")) is None)
            or (reads and topics.grant(question.topic) is Grant.DENIED)
        )

    async def _named(self, username: str | None) -> UUID | None:
        """Return the device of a username. The broker has let it in; most take no look-up."""
        if not username:
            return None
        if (device_id := _uuid(username)) is not None:
            return device_id
        digest = device_key_digest(username)
        known = self._names.get(digest)
        if known is not None and time.monotonic() - known[0] < _FRESH:
            return known[1]
        device = await self._find(digest)
        if device is None or not device.usable:
            return None
        self._names[digest] = (time.monotonic(), device.device_id)
        self._names.move_to_end(digest)
        if len(self._names) > _CACHED:
            self._names.popitem(last=False)
        return device.device_id

    async def _find(self, digest: bytes) -> KnownDevice | None:
        if self._waiting >= _WAITING:
            raise TooManyRequestsError("Too many devices sign in at once.", retry_after=1)
        self._waiting += 1
        try:
            async with self._lookups, self._database.transaction(None) as session:
                device = await device_of_key(session, digest)
        finally:
            self._waiting -= 1
        if device is None or device.expires_at is None or device.expires_at > datetime.now(UTC):
            return device
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
