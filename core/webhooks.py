"""Outgoing webhooks by the Standard Webhooks specification (standardwebhooks.com), without I/O."""

import base64
import secrets
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from standardwebhooks import Webhook

from core.crypto import Vault

RETRY_SCHEDULE: Final = tuple(
    float(seconds)
    for seconds in (
        0,
        5,
        5 * 60,
        30 * 60,
        2 * 3600,
        5 * 3600,
        10 * 3600,
        14 * 3600,
        20 * 3600,
        24 * 3600,
    )
)
"""Seconds before each attempt, counted from the one before; the specification's own proposal."""

JITTER: Final = 0.1
"""Share by which a wait is lengthened or shortened, so that retries do not come in waves."""

MAX_RETRY_AFTER: Final = 24 * 3600.0
"""Seconds; an endpoint cannot put off a delivery for longer with `Retry-After`."""

LASTING_FAILURE: Final = 5 * 86400.0
"""Seconds of nothing but failures after which an endpoint is disabled."""

_SECRET_BYTES = 32  # the specification asks for 24 to 64


def new_secret() -> str:
    """Return a signing secret in the specification's form, `whsec_` and base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def seal_secret(vault: Vault, webhook_id: UUID, secret: str) -> bytes:
    """Return the secret as `webhooks.secret` stores it: encrypted, and bound to its endpoint."""
    return vault.encrypt(secret.encode(), _context(webhook_id))


def open_secret(vault: Vault, webhook_id: UUID, sealed: bytes) -> str:
    """Return what `seal_secret` was given.

    Raises:
        DecryptionError: Sealed with another key or for another endpoint.
    """
    return vault.decrypt(sealed, _context(webhook_id)).decode()


def build_body(event_type: str, data: Any, timestamp: datetime) -> bytes:
    """Return the JSON body of an event; it is stored and sent byte for byte.

    Args:
        event_type: Dotted name, e.g. `alarm.raised`.
        data: Anything that JSON can hold.
        timestamp: When it happened (not when it is sent).
    """
    moment = timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode({"type": event_type, "timestamp": moment, "data": data})


def headers(secret: str, delivery_id: UUID, sent_at: datetime, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt.

    Args:
        secret: The endpoint's, `whsec_…`.
        delivery_id: The same in every attempt: by it a receiver recognises a repetition.
        sent_at: When this attempt is made; receivers refuse old ones.
        body: What is sent.
    """
    moment = sent_at.astimezone(UTC)
    message = str(delivery_id)
    return {
        "content-type": "application/json",
        "webhook-id": message,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(message, moment, body.decode()),
    }


def retry_in(tries: int, fraction: float, retry_after: float | None) -> float | None:
    """Return the seconds until the next attempt, None when there is none.

    Args:
        tries: Attempts made so far, at least 1.
        fraction: Random, 0 to 1; moves the wait by up to `JITTER` either way.
        retry_after: Seconds that the endpoint asked for; never shortens the wait.
    """
    if tries >= len(RETRY_SCHEDULE):
        return None
    wait = RETRY_SCHEDULE[tries] * (1 + JITTER * (2 * fraction - 1))
    return max(wait, min(retry_after or 0.0, MAX_RETRY_AFTER))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3).

    Returns:
        None without the header or when it is malformed; 0 for a date in the past.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    # An HTTP date is always in GMT; the parser leaves the zone out for `-0000`.
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


def _context(webhook_id: UUID) -> bytes:
    return b"webhook:" + webhook_id.bytes
