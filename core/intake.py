"""Handing messages to a broker process over HTTP, for what did not come over MQTT.

Triggers and their states live in the broker process, so whoever receives measurements elsewhere
(the API, an import) gives them to it and waits: the answer comes after the commit, as PUBACK does.
The endpoint is on the broker's port for metrics, on loopback unless `intake_url` says otherwise.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import httpx
import msgspec

from core.errors import (
    FieldError,
    InvalidInputError,
    NotAuthenticatedError,
    UnavailableError,
)
from core.settings import Settings

PATH: Final = "/intake"
MAX_BODY: Final = 20 * 1024 * 1024
"""Bytes of one request; more than the API takes at once."""
ANSWER: Final = 25.0
"""Seconds within which the broker answers."""

_CONNECT: Final = 3.0  # seconds


class Message(msgspec.Struct, frozen=True):
    """One message, as if it had been published.

    Attributes:
        topic: One of the device's own topics (`core.topics`).
        received_at: When it was received first, in microseconds, for one that comes again; its
            measurements without a time get this one, so that it is stored once.
    """

    device_id: UUID
    topic: str
    payload: bytes
    received_at: int | None = None


class Delivery(msgspec.Struct, frozen=True, tag="delivery"):
    """Messages of a tenant's devices, vouched for by the platform.

    Attributes:
        fire_triggers: Let triggers judge the measurements.
        bury: Keep what is refused as a dead letter.
    """

    tenant_id: UUID
    messages: list[Message]
    fire_triggers: bool = True
    bury: bool = True


class OwnMessage(msgspec.Struct, frozen=True, tag="own"):
    """A message that a device sent itself, with its key.

    Attributes:
        device_id: Which device it says it is; None is the one the key belongs to.
        kind: Last part of the topic: telemetry, attributes or events.
    """

    key: str
    device_id: UUID | None
    kind: str
    payload: bytes


Handover = Delivery | OwnMessage


UNKNOWN_DEVICE: Final = "unknown_device"
OUT_OF_SERVICE: Final = "out_of_service"
UNKNOWN_TOPIC: Final = "unknown_topic"
NOT_OF_PAYLOAD: Final = frozenset({UNKNOWN_DEVICE, OUT_OF_SERVICE, UNKNOWN_TOPIC})
"""Codes of outcomes that say nothing of the payload: such a message becomes no dead letter."""


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one message. Without a code it is committed."""

    code: str = ""
    pointer: str = ""
    message: str = ""

    @property
    def stored(self) -> bool:
        """Whether it is committed."""
        return not self.code


class RefusedMessageError(InvalidInputError):
    """A message that cannot be taken as what it claims to be; `code` is the payload's fault."""

    title = "The message cannot be taken"

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(
            f"The message cannot be taken: {outcome.message}.",
            errors=(FieldError(outcome.pointer, outcome.message),),
        )
        self.code = outcome.code


decode_handover = msgspec.msgpack.Decoder(Handover).decode
encode_outcomes = msgspec.msgpack.Encoder().encode
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_outcomes: Final = msgspec.msgpack.Decoder(list[Outcome]).decode


def intake_key(settings: Settings) -> str:
    """Return what a caller of the endpoint proves itself with.

    It is derived from the vault's key (HMAC-SHA256), so that an installation has one secret less
    to keep and rotate; nobody can get from it to the vault's.
    """
    secret = settings.secrets.vault_key.encode()
    return hmac.new(secret, b"iotlinker broker intake", hashlib.sha256).hexdigest()


class IntakeClient:
    """Hands messages over."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._url = settings.intake_url + PATH
        self._headers = {"authorization": f"Bearer {intake_key(settings)}"}
        self._http = http

    async def deliver(
        self,
        tenant_id: UUID,
        messages: Sequence[Message],
        *,
        fire_triggers: bool = True,
        bury: bool = True,
    ) -> list[Outcome]:
        """Hand over messages of a tenant; return what became of each, once it is committed.

        Raises:
            UnavailableError: The broker is down or overloaded, or the database is down. What was
                taken before that stays stored; sent again, it is stored once.
        """
        return await self._send(
            Delivery(tenant_id, list(messages), fire_triggers=fire_triggers, bury=bury)
        )

    async def own(self, key: str, device_id: UUID | None, kind: str, payload: bytes) -> Outcome:
        """Hand over a message with the device's own key.

        Raises:
            NotAuthenticatedError: The key is unknown, void, or another device's.
            UnavailableError: As above.
        """
        return (await self._send(OwnMessage(key, device_id, kind, payload)))[0]

    async def _send(self, handover: Handover) -> list[Outcome]:
        try:
            answer = await self._http.post(
                self._url,
                content=_encode(handover),
                headers=self._headers,
                timeout=httpx.Timeout(ANSWER + 5, connect=_CONNECT),
            )
        except httpx.TransportError as error:
            raise UnavailableError(
                "The broker cannot be reached; nothing is lost yet: send it again."
            ) from error
        match answer.status_code:
            case 200:
                return _decode_outcomes(answer.content)
            case 403:
                raise NotAuthenticatedError(answer.text)
            case 503:
                raise UnavailableError(answer.text)
            case status:
                raise RuntimeError(f"the broker's intake answered {status}: {answer.text[:200]}")
