"""Makes what the demo needs, over the public API; what is there already is used as it is."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from core.settings import Settings
from mlops.datasets.turbofan import FOLDER, SENSORS, Engine, training_engines
from mlops.history import HistoricalDevice, ImportProgress, import_history
from workers.cli.terminal import Advance, console, progress
from workers.demo.client import ApiClient, DemoError, within
from workers.demo.memory import Memory

PROFILE = "turbofan"
_PREFIX = "FD001-test-"
WEBHOOK = "Maintenance desk"
CYCLE_HOURS = 1.0
"""A cycle of the data set is a flight; the profile calls it an hour, so hours are cycles."""

_TRAINING_TIMEOUT = 900.0
_PROVISIONING_TIMEOUT = 180.0


async def ensure_profile(api: ApiClient) -> UUID:
    """Return the engines' profile."""
    existing = (await api.get("/device-profiles", limit=100))["profiles"]
    for profile in existing:
        if profile["name"] == PROFILE:
            return UUID(profile["id"])
    created = await api.post(
        "/device-profiles",
        {
            "name": PROFILE,
            "description": "Turbofan engine of NASA's C-MAPSS simulation, set FD001",
            "configuration": {
                "desired": {"report_every_s": 3600},
                "prediction": {
                    "cycle_hours": CYCLE_HOURS,
                    "recommended_actions": [
                        {"when_below_hours": 20, "action": "Take the engine out of service"},
                        {"when_below_hours": 60, "action": "Plan an overhaul"},
                    ],
                },
            },
        },
    )
    return UUID(created["id"])


async def ensure_history(settings: Settings, tenant_id: UUID, profile_id: UUID) -> None:
    """Import the engines that ran to failure."""
    engines = await asyncio.to_thread(training_engines)
    with progress("Importing the history of 100 engines") as advance:

        def show(done: ImportProgress) -> None:
            advance(done.devices, len(engines), f"{done.messages:,} messages")

        imported = await import_history(
            settings,
            tenant_id,
            profile_id,
            [
                HistoricalDevice(
                    name=f"FD001-train-{engine.unit:03}",
                    metrics=SENSORS,
                    cycles=engine.cycles,
                    labels={"dataset": "C-MAPSS FD001", "set": "training"},
                )
                for engine in engines
            ],
            show,
        )
    added = f"{imported.messages:,} messages of {imported.added} engines"
    console.print(f"History: {added if imported.added else 'there already'}")


async def ensure_champion(api: ApiClient) -> None:
    """Train a model unless there is one, by the training workflow."""
    champion = await _champion(api)
    if champion is None:
        started = await api.post("/analytics/trainings", {"device_type": PROFILE})
        with progress("Training a model of remaining life") as advance:
            await _until_trained(api, started["training_id"], advance)
        champion = await _champion(api)
    if champion is None:
        raise DemoError("the training ended without a champion")
    metrics = ", ".join(f"{name} {value:.3g}" for name, value in champion["metrics"].items())
    console.print(f"Model: champion version {champion['version']} ({metrics})")


async def _champion(api: ApiClient) -> dict[str, Any] | None:
    models = (await api.get("/analytics/models"))["models"]
    return next((model for model in models if model["device_type"] == PROFILE), None)


async def _until_trained(api: ApiClient, training_id: str, advance: Advance) -> None:
    async with within(_TRAINING_TIMEOUT, "the training"):
        while True:
            training = await api.get(f"/analytics/trainings/{training_id}")
            if training["status"] == "completed":
                return
            if training["status"] in {"failed", "cancelled"}:
                raise DemoError(f"the training {training['status']}: {training['error']}")
            if now := training["progress"]:
                advance(now["fraction"], 1.0, f"{now['stage']} {now['detail']}")
            await asyncio.sleep(1)


async def ensure_webhook(api: ApiClient, memory: Memory, url: str) -> None:
    """Point the maintenance desk's endpoint at the receiver; `memory` learns its secret."""
    known = (await api.get("/webhooks", limit=100))["webhooks"]
    webhook = next((one for one in known if one["name"] == WEBHOOK), None)
    if webhook is None:
        created = await api.post("/webhooks", {"name": WEBHOOK, "url": url})
        memory.webhook_secret = created["secret"]
        return
    if webhook["url"] != url or not webhook["enabled"]:
        await api.patch(f"/webhooks/{webhook['id']}", {"url": url, "enabled": True})
    if memory.webhook_secret is None:
        rotated = await api.post(f"/webhooks/{webhook['id']}/secret/rotate")
        memory.webhook_secret = rotated["secret"]


async def ensure_automation(api: ApiClient) -> UUID:
    """Post the example automation, or publish it anew when the file has changed."""
    text = await asyncio.to_thread((FOLDER / "automation.json").read_text)
    definition = json.loads(text)
    known = (await api.get("/workflows", limit=100))["workflows"]
    summary = next((one for one in known if one["name"] == definition["name"]), None)
    if summary is None:
        saved = await api.post("/workflows", definition)
        return UUID(saved["workflow"]["id"])
    workflow = await api.get(f"/workflows/{summary['id']}")
    if workflow["definition"] != definition:
        await api.put(
            f"/workflows/{workflow['id']}", definition | {"expected_version": workflow["version"]}
        )
    return UUID(workflow["id"])


async def ensure_fleet(api: ApiClient, memory: Memory, engines: Sequence[Engine]) -> str | None:
    """Provision the engines in bulk; `memory` learns their ids and keys.

    Returns:
        The id of the bulk provisioning, or None when all of them were there.
    """
    names = {_name(engine.unit): engine.unit for engine in engines}
    there = {device["name"]: UUID(device["id"]) for device in await _devices(api)}
    for name, device_id in there.items():
        memory.engines[names[name]] = device_id
        if device_id not in memory.keys:
            renewed = await api.post(f"/devices/{device_id}/credentials/rotate")
            memory.keys[device_id] = renewed["device_key"]
    missing = [name for name in names if name not in there]
    if not missing:
        return None
    created = await api.post(
        "/devices/bulk",
        {
            "devices": [
                {
                    "name": name,
                    "type": PROFILE,
                    "metadata": {"dataset": "C-MAPSS FD001", "set": "test"},
                }
                for name in missing
            ]
        },
    )
    for device in created["devices"]:
        device_id = UUID(device["device_id"])
        memory.engines[names[device["name"]]] = device_id
        memory.keys[device_id] = device["device_key"]
    return created["provisioning_id"]


async def _devices(api: ApiClient) -> list[dict[str, Any]]:
    answer = await api.get("/devices", search=_PREFIX, type=PROFILE, limit=100)
    return answer["devices"]


def _name(unit: int) -> str:
    return f"{_PREFIX}{unit:03}"


async def until_active(api: ApiClient, bulk: str, advance: Advance) -> None:
    """Wait until every device of a bulk has connected for the first time."""
    async with within(_PROVISIONING_TIMEOUT, "provisioning the engines"):
        while True:
            now = await api.get(f"/devices/bulk/{bulk}")
            advance(now["active"], now["total"], f"{now['active']} active")
            if now["active"] == now["total"]:
                return
            if now["failed"] or now["expired"]:
                raise DemoError(f"provisioning: {now}")
            await asyncio.sleep(0.5)
