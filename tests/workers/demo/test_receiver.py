"""The demo's webhook receiver believes only what is signed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest

from core.webhooks import build_body, headers, new_secret
from workers.demo.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.secret = new_secret()
    with receiver.serving():
        yield receiver


def deliver(
    receiver: Receiver, *, secret: str | None = None, data: int = 1, message: UUID | None = None
) -> int:
    now = datetime.now(UTC)
    body = build_body("alarm.raised", {"n": data}, now)
    signed = headers(secret or receiver.secret or "", message or uuid4(), now, body)
    return httpx.post(receiver.url, content=body, headers=signed, trust_env=False).status_code


def test_a_signed_delivery_is_taken(receiver: Receiver) -> None:
    assert deliver(receiver) == 204
    assert len(receiver.received.bodies) == 1


def test_another_secret_is_refused(receiver: Receiver) -> None:
    assert deliver(receiver, secret=new_secret()) == 401
    assert receiver.received.bodies == {}
    assert receiver.received.rejected == 1


def test_a_request_without_a_signature_is_refused(receiver: Receiver) -> None:
    assert httpx.post(receiver.url, content=b"{", trust_env=False).status_code == 401


def test_the_same_delivery_again_is_a_repetition(receiver: Receiver) -> None:
    now = datetime.now(UTC)
    body = build_body("alarm.raised", {}, now)
    signed = headers(receiver.secret or "", uuid4(), now, body)
    for _ in range(2):
        assert receiver.accept(signed, body)
    assert receiver.received.repeated == 1
    assert not receiver.received.altered


def test_one_id_with_two_bodies_is_noticed(receiver: Receiver) -> None:
    message = uuid4()
    deliver(receiver, data=1, message=message)
    deliver(receiver, data=2, message=message)
    assert receiver.received.altered == {str(message)}
