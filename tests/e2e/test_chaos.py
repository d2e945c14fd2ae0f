"""Under load every process is killed in turn, and then everything is counted."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.e2e.conftest import signed_in
from tests.e2e.platform import Platform
from tests.support.waiting import eventually
from workers.demo.client import ApiClient
from workers.demo.engine import Engine, Pacer, Tally, run_fleet
from workers.demo.receiver import Receiver

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]

DEVICES = 20
CYCLES = 500
RATE = 200.0
HOT_EVERY = 100
"""A device is too hot once in so many messages, and each time that fires the automation."""
RUNS = DEVICES * CYCLES // HOT_EVERY

VICTIMS = (
    "broker",
    "api",
    "worker-automation",
    "worker-outbound",
    "worker-training",
    "temporal",
    "valkey",
    "postgres",
)
STATUSES = ("pending", "running", "waiting", "completed", "failed", "cancelled")

AUTOMATION: dict[str, Any] = {
    "name": "Too hot",
    "triggers": [
        {
            "type": "telemetry",
            "device_type": "boiler",
            "metric": "temperature",
            "when": {"op": ">", "value": 90},
        }
    ],
    "actions": [
        {"id": "alarm", "type": "alarm", "with": {"name": "Too hot", "severity": "critical"}},
        {
            "id": "cool",
            "type": "device_command",
            "with": {"name": "cool", "payload": {"to": 40}, "timeout": "PT2M"},
        },
        {
            "id": "tell",
            "type": "webhook",
            "with": {
                "webhook": "desk",
                "event_type": "boiler.hot",
                "data": {"device": "${device.name}", "number": "${trigger.values.number}"},
            },
        },
    ],
}


def cycles() -> list[dict[str, float]]:
    """Return what a device sends: numbered messages, some of them too hot."""
    return [
        {"number": float(n), "temperature": 95.0 if n % HOT_EVERY == HOT_EVERY // 2 else 20.0}
        for n in range(CYCLES)
    ]


@dataclass
class Fleet:
    """Devices under load."""

    engines: list[Engine]
    tally: Tally
    workflow: str
    webhook: str


async def prepare(platform: Platform, api: ApiClient, receiver: Receiver) -> Fleet:
    await api.post("/device-profiles", {"name": "boiler"})
    webhook = await api.post("/webhooks", {"name": "desk", "url": receiver.url})
    receiver.secret = webhook["secret"]
    saved = await api.post("/workflows", AUTOMATION)
    forms = [{"name": f"boiler-{n}", "type": "boiler"} for n in range(DEVICES)]
    bulk = await api.post("/devices/bulk", {"devices": forms})
    tally, pacer = Tally(), Pacer(RATE)
    pacer.start()
    engines = [
        Engine(
            UUID(one["device_id"]),
            one["device_key"],
            platform.settings.mqtt_endpoint,
            cycles(),
            pacer,
            tally,
        )
        for one in bulk["devices"]
    ]
    return Fleet(engines, tally, saved["workflow"]["id"], webhook["webhook"]["id"])


async def total(api: ApiClient, path: str, **wanted: str) -> int:
    return (await api.get(path, limit=1, **wanted))["pagination"]["total"]


async def runs(api: ApiClient, workflow: str) -> dict[str, int]:
    path = f"/workflows/{workflow}/executions"
    counts = {status: await total(api, path, status=status) for status in STATUSES}
    return {status: count for status, count in counts.items() if count}


async def numbers(api: ApiClient, engine: Engine) -> list[float]:
    """Return the numbers of a device's stored messages, by time."""
    now = datetime.now(UTC)
    data = await api.get(
        f"/devices/{engine.device_id}/data",
        start_time=(now - timedelta(hours=1)).isoformat(),
        end_time=(now + timedelta(hours=1)).isoformat(),
        limit=10_000,
    )
    return [reading["metrics"]["number"] for reading in data["data"]]


def not_once(stored: list[float]) -> dict[float, int]:
    """Return the numbers that are not stored exactly once, and how often they are."""
    counts = Counter(stored)
    return {float(n): counts[n] for n in range(CYCLES) if counts[n] != 1}


async def test_nothing_acknowledged_is_lost_whatever_is_killed(platform: Platform) -> None:
    receiver = Receiver()
    await platform.start()
    with receiver.serving():
        async with signed_in(platform) as api:
            fleet = await prepare(platform, api, receiver)
            load = asyncio.create_task(run_fleet(fleet.engines))
            try:
                await eventually(lambda: fleet.tally.acknowledged > 500, timeout=60)
                for victim in VICTIMS:
                    flowing = fleet.tally.acknowledged
                    await platform.kill(victim)
                    await eventually(
                        lambda before=flowing: fleet.tally.acknowledged > before, timeout=60
                    )
                assert fleet.tally.acknowledged < DEVICES * CYCLES, "the load ended too early"
                await eventually(lambda: fleet.tally.acknowledged == DEVICES * CYCLES, timeout=150)

                async def all_ended() -> bool:
                    return await runs(api, fleet.workflow) == {"completed": RUNS}

                async def all_delivered() -> bool:
                    path = f"/webhooks/{fleet.webhook}/deliveries"
                    return await total(api, path, status="delivered") == RUNS

                await eventually(all_ended, timeout=150, interval=0.5)
                await eventually(all_delivered, timeout=60, interval=0.5)
            finally:
                load.cancel()
                await asyncio.wait({load})

            stored = [await numbers(api, engine) for engine in fleet.engines]
            deliveries = await api.get(f"/webhooks/{fleet.webhook}/deliveries", limit=500)

    assert [off for off in map(not_once, stored) if off] == []
    assert all(one == sorted(one) for one in stored)
    assert fleet.tally.lost >= DEVICES  # the broker was killed: each engine lost its connection
    sent = Counter(delivery["id"] for delivery in deliveries["deliveries"])
    assert set(receiver.received.bodies) == set(sent)
    assert not receiver.received.altered
    assert not receiver.received.rejected
    assert fleet.tally.commands == RUNS


WAITING: dict[str, Any] = {
    "name": "Slow and careful",
    "triggers": [{"type": "manual"}],
    "actions": [
        {"id": "later", "type": "delay", "with": {"duration": "${trigger.input.wait}"}},
        {"id": "ask", "type": "approval", "with": {"to": ["role:tenant_admin"]}},
        {"id": "done", "type": "set", "with": {"vars": {"approved": "${steps.ask.approved}"}}},
    ],
}


async def test_a_delay_and_an_approval_live_through_a_stop_and_start(platform: Platform) -> None:
    async with signed_in(platform) as api:
        saved = await api.post("/workflows", WAITING)
        path = f"/workflows/{saved['workflow']['id']}"
        delayed = await execute(api, path, wait="PT20S")
        asking = await execute(api, path, wait="PT0.1S")
        await eventually(lambda: waits_at(api, path, asking, "ask"), timeout=30, interval=0.2)
        await eventually(lambda: waits_at(api, path, delayed, "later"), timeout=30, interval=0.2)
    await platform.stop()
    await platform.start()
    async with signed_in(platform) as api:
        for execution in (asking, delayed):
            await eventually(
                lambda run=execution: waits_at(api, path, run, "ask"), timeout=60, interval=0.2
            )
            await api.post(f"{path}/executions/{execution}/approve", {"step": "ask"})
        await eventually(lambda: completed(api, path), timeout=30, interval=0.2)
    await platform.stop()


async def execute(api: ApiClient, path: str, *, wait: str) -> str:
    started = await api.post(f"{path}/execute", {"input_data": {"wait": wait}})
    return started["execution_id"]


async def waits_at(api: ApiClient, path: str, execution: str, step: str) -> bool:
    found = await api.get(f"{path}/executions")
    if execution not in {one["execution_id"] for one in found["executions"]}:
        return False  # it was asked for, and the relay has not started it yet
    run = await api.get(f"{path}/executions/{execution}")
    return any(s["path"] == step and s["status"] == "waiting" for s in run["steps"])


async def completed(api: ApiClient, path: str) -> bool:
    return await total(api, f"{path}/executions", status="completed") == 2
