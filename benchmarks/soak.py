"""Nothing acknowledged is lost: load for minutes while a random process is killed every so often.

The whole data path (PostgreSQL, Valkey, broker, API) runs under the platform's supervisor. Devices
send numbered QoS 1 messages over a connection each and repeat with DUP what was not acknowledged
when their connection was lost. SIGKILL hits the broker, the postmaster, Valkey and the API in a
random order whose seed is printed. In the end every device's count of acknowledged messages is
compared with its rows, message by message. The value reported is what was lost.

The peak is measured first, by the same devices without a limit to their rate.
"""

import argparse
import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.support.fleet import Fleet, make_fleet
from benchmarks.support.result import report
from benchmarks.support.stack import own_ports
from core.settings import load_settings
from tests.support.data_path import DataPath, data_path, stored
from tests.support.persistent import PersistentLoad
from tests.support.waiting import eventually

VICTIMS = ("broker", "postgres", "valkey", "api")
WINDOW = 2_000


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill and how long it took until it was over.

    Attributes:
        ready: Seconds until the process was ready again.
        flowing: Seconds until a message sent afterwards was acknowledged.
    """

    victim: str
    ready: float
    flowing: float


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--share", type=float, default=0.5, help="of the measured peak")
    parser.add_argument("--kill-every", type=float, default=15, help="seconds")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--peak-seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="iotlinker-soak-") as home:
        own_ports(Path(home))
        asyncio.run(_soak(options))


async def _soak(options: argparse.Namespace) -> None:
    settings = load_settings()
    async with data_path(settings) as path:
        fleet = await make_fleet(settings, options.devices)
        start = int(time.time() * 1000)
        peak_load = _load(path, fleet, first_ms=start - 7_200_000)
        peak = await _peak(peak_load, options.peak_seconds)
        print(f"peak: {peak:,.0f} messages/s; seed {options.seed}", flush=True)
        load = _load(path, fleet, rate=peak * options.share, first_ms=start - 3_600_000)
        memory = psutil.Process(path.pid("broker")).memory_info().rss
        load.start()
        began = time.monotonic()
        kills = await _kill(path, load, options, began)
        await asyncio.sleep(max(0.0, began + options.seconds - time.monotonic()))
        await asyncio.to_thread(load.stop, 180.0)
        seconds = time.monotonic() - began
        highest = psutil.Process(path.pid("broker")).memory_info().rss
        print("counting", flush=True)
        kept = await stored(settings, load)
        during_peak = await stored(settings, peak_load)
    lost = kept.missing + during_peak.missing
    print(
        f"{load.sent:,} sent, {load.repeated:,} of them again; {load.acknowledged:,} acknowledged;"
        f" {kept.rows:,} stored; {kept.twice} twice, {kept.altered} altered, {lost} lost\n"
        f"{len(kills)} kills {dict(Counter(kill.victim for kill in kills))}; longest pause"
        f" {load.longest_pause:.1f} s; {load.connections - options.devices} connections made anew",
        flush=True,
    )
    report(
        "soak",
        lost,
        "messages lost",
        load.acknowledged,
        lost / max(1, load.acknowledged),
        seconds=round(seconds),
        peak=round(peak),
        rate=round(load.acknowledged / seconds),
        sent=load.sent,
        repeated=load.repeated,
        acknowledged=load.acknowledged,
        stored=kept.rows,
        stored_twice=kept.twice,
        altered=kept.altered,
        kills=len(kills),
        recoveries=len(kills),
        longest_recovery=round(max((kill.ready for kill in kills), default=0.0), 1),
        longest_pause=round(load.longest_pause, 1),
        broker_mib_before=memory >> 20,
        broker_mib_after=highest >> 20,
        seed=options.seed,
    )
    if lost or kept.twice or kept.altered or kept.rows != load.sent:
        raise SystemExit("what was acknowledged is not what is stored")


def _load(
    path: DataPath, fleet: Fleet, *, first_ms: int, rate: float | None = None
) -> PersistentLoad:
    broker = path.settings.broker
    return PersistentLoad(
        broker.host, broker.port, fleet.devices, window=WINDOW, rate=rate, first_ms=first_ms
    )


async def _peak(load: PersistentLoad, seconds: float) -> float:
    load.start()
    await asyncio.sleep(2)  # warms everything up
    before, began = load.acknowledged, time.monotonic()
    await asyncio.sleep(seconds)
    rate = (load.acknowledged - before) / (time.monotonic() - began)
    await asyncio.to_thread(load.stop)
    return rate


async def _kill(
    path: DataPath, load: PersistentLoad, options: argparse.Namespace, began: float
) -> list[Kill]:
    """Kill by the clock; the last kill leaves time to recover within the run."""
    choice = random.Random(options.seed)
    kills: list[Kill] = []
    due = began + options.kill_every
    while due + options.kill_every <= began + options.seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        due += options.kill_every
        victim = choice.choice(VICTIMS)
        restarts, sent = path.part(victim).restarts, load.sent
        at = time.monotonic()
        os.kill(path.pid(victim), signal.SIGKILL)
        again = asyncio.create_task(path.restarted(victim, restarts, timeout=120))
        await eventually(lambda before=sent: _flows(load, before), timeout=180)
        flowing = time.monotonic() - at
        await again
        kills.append(Kill(victim, time.monotonic() - at, flowing))
        print(
            f"{at - began:6.1f} s: killed {victim}, ready after {kills[-1].ready:.1f} s, messages"
            f" flow after {flowing:.1f} s; {load.acknowledged:,} acknowledged",
            flush=True,
        )
    return kills


def _flows(load: PersistentLoad, sent: int) -> bool:
    """Whether messages sent afterwards are acknowledged, or nothing will be any more."""
    return load.acknowledged > sent or load.error is not None


if __name__ == "__main__":
    main()
