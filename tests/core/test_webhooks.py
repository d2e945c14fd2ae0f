"""Webhooks are built, signed and scheduled by the Standard Webhooks specification."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from core import webhooks
from core.crypto import DecryptionError, Vault
from core.settings.secrets import Secrets

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_a_body_verifies_under_its_own_headers_and_secret_only(data: object) -> None:
    secret, delivery_id = webhooks.new_secret(), uuid4()
    body = webhooks.build_body("alarm.raised", data, NOW)
    headers = webhooks.headers(secret, delivery_id, datetime.now(UTC), body)
    assert Webhook(secret).verify(body, headers) == {
        "type": "alarm.raised",
        "timestamp": "2026-03-01T12:00:00.000Z",
        "data": data,
    }
    assert headers["webhook-id"] == str(delivery_id)
    with pytest.raises(WebhookVerificationError):
        Webhook(webhooks.new_secret()).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)


def test_the_signature_is_hmac_sha256_of_id_time_and_body() -> None:
    # Computed with `openssl dgst -sha256 -mac HMAC` over "{id}.{timestamp}.{body}".
    headers = webhooks.headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        UUID("00000000-0000-4000-8000-000000000001"),
        datetime.fromtimestamp(1614265330.9, UTC),
        b'{"test": 2432232314}',
    )
    assert headers == {
        "content-type": "application/json",
        "webhook-id": "00000000-0000-4000-8000-000000000001",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,aiinpn9iA4WGOMCxPpmsxF8xrJc1kqOtAPNynmA77aE=",
    }


def test_the_time_of_a_body_is_utc_whatever_its_zone() -> None:
    zoned = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert json.loads(webhooks.build_body("x", {}, zoned))["timestamp"].endswith("12:00:00.000Z")


def test_a_secret_opens_for_its_own_endpoint_only() -> None:
    vault = Vault(Secrets.generate().vault_key)
    webhook_id, secret = uuid4(), webhooks.new_secret()
    sealed = webhooks.seal_secret(vault, webhook_id, secret)
    assert secret.encode() not in sealed
    assert webhooks.open_secret(vault, webhook_id, sealed) == secret
    with pytest.raises(DecryptionError):
        webhooks.open_secret(vault, uuid4(), sealed)


@given(st.floats(0, 1), st.none() | st.floats(0, allow_infinity=True))
def test_waits_keep_to_the_schedule_and_its_bounds(
    fraction: float, retry_after: float | None
) -> None:
    waits = [webhooks.retry_in(tries, fraction, retry_after) for tries in range(1, 11)]
    assert waits[-1] is None
    for wait, planned in zip(waits[:-1], webhooks.RETRY_SCHEDULE[1:], strict=True):
        assert wait is not None
        assert wait >= planned * (1 - webhooks.JITTER)
        asked = min(retry_after or 0, webhooks.MAX_RETRY_AFTER)
        assert wait <= max(planned * (1 + webhooks.JITTER), asked)
        assert wait >= asked


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("Sunday, 01-Mar-26 12:01:30 GMT", 90),  # RFC 850's form, obsolete and to be accepted
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert webhooks.parse_retry_after(value, NOW) == seconds


@given(st.text())
def test_no_retry_after_breaks_the_parser(value: str) -> None:
    wait = webhooks.parse_retry_after(value, NOW)
    assert wait is None or wait >= 0
