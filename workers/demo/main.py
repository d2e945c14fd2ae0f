"""`iotlinker demo`."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import typer

from api.auth.bootstrap import create_administrator
from core.settings import Settings, load_settings
from mlops.datasets.turbofan import engines_under_test
from workers.accounts import reset_password
from workers.cli.errors import INTERRUPTED
from workers.cli.terminal import console
from workers.cli.up import run_platform, show_addresses
from workers.cli.users import show_password
from workers.demo import prepare
from workers.demo.client import ApiClient
from workers.demo.memory import Memory
from workers.demo.receiver import Receiver
from workers.demo.replay import Replay
from workers.demo.verdict import accounting, faults, root_mean_square_error, table

ADMINISTRATOR = "admin@turbofan.example"
PROGRAM = "demo@turbofan.example"
"""The demo's own account; it gets a new password at each start, which is kept nowhere."""
_TENANT = {"organization": "Turbofan", "tenant": "Turbofan demo", "subdomain": "turbofan"}
_ALLOW = "IOTLINKER_OUTBOUND_ALLOW_NETWORKS"
_LOOPBACK = "127.0.0.0/8"


@dataclass(slots=True)
class _Outcome:
    """What the demo came to; None while it has not come to its end."""

    faults: list[str] | None = None


def run(home: Path | None, *, leave: bool, rate: float) -> None:
    """Start the platform and run the demo on it."""
    _allow_loopback()
    settings = load_settings(home)
    outcome = _Outcome()
    asyncio.run(run_platform(settings, lambda s: _demo(s, rate, outcome, leave=leave)))
    if leave:
        if outcome.faults is None:
            raise typer.Exit(INTERRUPTED)
        for fault in outcome.faults:
            console.print(f"[red]Failed: {fault}[/]")
        raise typer.Exit(1 if outcome.faults else 0)


def _allow_loopback() -> None:
    """Let this start's processes deliver webhooks to the receiver, which is on loopback."""
    allowed = os.environ.get(_ALLOW, "")
    if _LOOPBACK not in allowed.split(","):
        os.environ[_ALLOW] = f"{allowed},{_LOOPBACK}".strip(",")


async def _demo(settings: Settings, rate: float, outcome: _Outcome, *, leave: bool) -> None:
    show_addresses(settings)
    tenant_id, password = await create_administrator(settings, email=ADMINISTRATOR, **_TENANT)
    show_password(ADMINISTRATOR, password)
    await create_administrator(settings, email=PROGRAM, **_TENANT)
    program_password = await reset_password(settings, PROGRAM)

    memory = Memory.load(settings.home)
    records = await asyncio.to_thread(engines_under_test)
    receiver = Receiver()
    with receiver.serving(memory.receiver_port):
        memory.receiver_port = receiver.port
        async with ApiClient(settings.api_url, PROGRAM, program_password) as api:
            profile_id = await prepare.ensure_profile(api)
            await prepare.ensure_history(settings, tenant_id, profile_id)
            await prepare.ensure_champion(api)
            await prepare.ensure_webhook(api, memory, receiver.url)
            receiver.secret = memory.webhook_secret
            automation = await prepare.ensure_automation(api)
            bulk = await prepare.ensure_fleet(api, memory, records)
            memory.passes += 1
            memory.save(settings.home)
            replay = Replay(settings, tenant_id, api, receiver, automation, memory, records, rate)
            async with replay.flying(bulk):
                await replay.fly()
                memory.last_ms = replay.last_ms
                memory.save(settings.home)
                outcome.faults = await _conclude(replay, receiver)
                if not leave:
                    console.print("The platform stays up, the engines connected.")
                    show_addresses(settings)
                    console.print("Ctrl-C ends it.")
                    await asyncio.Event().wait()


async def _conclude(replay: Replay, receiver: Receiver) -> list[str]:
    answers = await replay.ask()
    console.print(table(answers))
    console.print(
        f"RMSE over {len(answers)} engines, against the true remaining life: "
        f"{root_mean_square_error(answers):.1f} cycles"
    )
    console.print(f"[bold]{accounting(replay.figures)}[/]")
    found = faults(
        replay.figures,
        values=replay.values,
        altered=len(receiver.received.altered),
        unanswered=len(replay.engines) - len(answers),
    )
    console.print("All of it held." if not found else "Not all of it held.")
    return found
