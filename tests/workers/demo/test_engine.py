"""The pace and the end of the fleet, and the measurement of latency."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aiomqtt
import pytest

from workers.demo.engine import Engine, Pacer, Tally
from workers.demo.latency import LatencyMeter


async def test_no_engine_starts_before_the_fleet_does() -> None:
    pacer = Pacer(rate=1000)
    waiting = asyncio.create_task(pacer.slot())
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    pacer.start()
    await waiting


async def test_all_engines_together_keep_the_rate() -> None:
    pacer = Pacer(rate=200)
    pacer.start()
    began = time.monotonic()

    async def engine() -> None:
        for _ in range(4):
            await pacer.slot()

    await asyncio.gather(*(engine() for _ in range(10)))
    assert time.monotonic() - began >= 39 / 200


def test_latency_is_known_after_two_measurements() -> None:
    meter = LatencyMeter()
    assert meter.percentiles() is None
    for milliseconds in (100, 100, 100):
        sent = datetime.now(UTC) - timedelta(milliseconds=milliseconds)
        meter.take({"type": "data", "payload": {"timestamp": sent.isoformat()}})
    percentiles = meter.percentiles()
    assert percentiles is not None
    assert 0.09 < percentiles[0] < 1


def test_answers_to_subscriptions_are_no_measurements() -> None:
    meter = LatencyMeter()
    meter.take({"type": "subscribe", "payload": {"device_id": "x"}})
    assert meter.messages == 0


async def test_an_engine_ends_when_cancelled_though_its_connection_fails_at_that_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flying = asyncio.Event()

    async def lose() -> None:
        try:
            flying.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise aiomqtt.MqttError("Unexpected disconnection") from None

    async def connection(_self: Engine) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(lose())

    monkeypatch.setattr(Engine, "_connection", connection)
    engine = Engine(uuid4(), "key", "mqtt://127.0.0.1:1", [], Pacer(1), Tally())
    task = asyncio.create_task(engine.run())
    await flying.wait()
    task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({task})
    assert task.cancelled()
