"""What is told over Valkey, and to whom."""

import json
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from broker.devices import Device
from broker.metrics import BrokerMetrics
from broker.notifications import Notifier
from core import bus as channels
from tests.support.waiting import eventually


class _Known(Device):
    """As much of a device as notifications look at."""

    def __init__(self) -> None:
        self.id = uuid4()


def points(*values: float) -> list[Any]:
    """Return committed points."""
    return [(1_700_000_000_000_000 + n, {"t": value}, None, None) for n, value in enumerate(values)]


async def listen(bus: Redis, device: Device) -> PubSub:
    """Subscribe to a device."""
    pubsub = bus.pubsub()
    await pubsub.subscribe(channels.telemetry(device.id))
    await pubsub.get_message(timeout=5)
    return pubsub


async def heard(pubsub: PubSub) -> list[float]:
    """Return the values of the next notification."""

    async def message() -> Any:
        return await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)

    data = json.loads((await eventually(message))["data"])
    return [point["metrics"]["t"] for point in data]


@pytest.fixture
def notifier(bus: Redis) -> Notifier:
    """A notifier on the session's Valkey."""
    return Notifier(bus, BrokerMetrics())


async def test_who_listens_hears_what_was_stored_together_in_one_message(
    notifier: Notifier, bus: Redis
) -> None:
    device = _Known()
    pubsub = await listen(bus, device)
    notifier.telemetry(device, points(1, 2))
    notifier.telemetry(device, points(3))
    await notifier.flush()
    assert await heard(pubsub) == [1, 2, 3]
    await pubsub.aclose()


async def test_a_new_listener_is_heard_of_at_once(notifier: Notifier, bus: Redis) -> None:
    device = _Known()
    notifier.telemetry(device, points(1))
    await notifier.flush()  # nobody listens, which is remembered
    pubsub = await listen(bus, device)
    notifier.listening(device.id)
    notifier.telemetry(device, points(2))
    await notifier.flush()
    assert await heard(pubsub) == [2]
    await pubsub.aclose()


async def test_measurements_that_nobody_listens_to_are_not_published(
    notifier: Notifier, bus: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, other = _Known(), _Known()
    pubsub = await listen(bus, other)
    encoded: list[Any] = []
    monkeypatch.setattr("broker.notifications._encode", lambda items: encoded.append(items) or b"")
    notifier.telemetry(device, points(1))
    notifier.telemetry(other, points(2))
    await notifier.flush()
    assert [item.metrics for items in encoded for item in items] == [{"t": 2}]
    await pubsub.aclose()
