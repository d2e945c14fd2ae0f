"""Hostile packets by the hundred thousand, and what honest devices notice of them.

Mutated, malformed, oversized and imagined packets, connections that dribble, never read, say
nothing or vanish, and hundreds that sign in at once hit one broker process, while honest devices
of another tenant send numbered QoS 1 messages. The broker must stay the same process, keep its
memory and its descriptors, and log no unexpected error; honest devices must keep their connections
and have everything acknowledged and stored. The value reported is the rate of hostile packets; the
baseline is that of the honest ones.
"""

import argparse
import asyncio
import json
import re
import time
from collections import Counter

import psutil

from benchmarks.support.fleet import Fleet, make_fleet
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, process
from core.db.session import Database
from core.settings import Settings
from tests.support.data_path import stored
from tests.support.hostile_clients import Attack, Damage, attack_apart
from tests.support.persistent import PersistentLoad
from tests.support.tenants import make_tenant

HONEST, RATE, WINDOW = 10, 500.0, 500
ABUSED = 20
WARM_UP = 0.1
"""Share of the packets that come before the memory is measured: caches fill first."""


def main() -> None:
    """Attack and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    with data_servers() as settings:
        honest, abused = asyncio.run(_fleets(settings))
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with process(settings, "broker.main", health) as pid:
            _fuzz(settings, honest, abused, psutil.Process(pid), options)


async def _fleets(settings: Settings) -> tuple[Fleet, Fleet]:
    owner = Database.connect(settings, "owner")
    try:
        other = await make_tenant(owner, "Hostile")
    finally:
        await owner.close()
    return await make_fleet(settings, HONEST), await make_fleet(settings, ABUSED, other)


def _fuzz(
    settings: Settings,
    honest: Fleet,
    abused: Fleet,
    broker: psutil.Process,
    options: argparse.Namespace,
) -> None:
    mqtt = settings.broker
    load = PersistentLoad(mqtt.host, mqtt.port, honest.devices, window=WINDOW, rate=RATE)
    load.start()
    before = Attack(
        mqtt.host,
        mqtt.port,
        abused.devices,
        round(options.packets * WARM_UP),
        options.seed,
    )
    warm = attack_apart(before)
    memory, descriptors = _settled(broker)
    attack = Attack(
        mqtt.host,
        mqtt.port,
        abused.devices,
        options.packets - warm.packets,
        options.seed + 1_000,
    )
    damage = attack_apart(attack)
    memory_after, descriptors_after = _settled(broker)
    load.stop()
    same = broker.is_running() and broker.status() != psutil.STATUS_ZOMBIE
    packets = warm.packets + damage.packets
    seconds = warm.seconds + damage.seconds
    kept = asyncio.run(stored(settings, load))
    unexpected = _unexpected(settings)
    waits = sorted(load.waits)
    _tell(warm, damage, options.seed)
    report(
        "fuzz",
        packets / seconds,
        "hostile packets/s",
        RATE,
        packets / seconds / RATE,
        packets=packets,
        seconds=round(seconds),
        seed=options.seed,
        connections=warm.connections + damage.connections,
        same_process=str(same),
        unexpected_errors=unexpected,
        rss_mib_before=round(memory, 1),
        rss_mib_after=round(memory_after, 1),
        descriptors_before=descriptors,
        descriptors_after=descriptors_after,
        honest_sent=load.sent,
        honest_acknowledged=load.acknowledged,
        honest_stored=kept.rows,
        honest_reconnections=load.connections - HONEST,
        honest_p50_ms=round(waits[len(waits) // 2] * 1e3, 1),
        honest_p99_ms=round(waits[int(len(waits) * 0.99)] * 1e3, 1),
        honest_worst_ms=round(waits[-1] * 1e3, 1),
    )
    if not same or unexpected or load.connections != HONEST or kept.rows != load.acknowledged:
        raise SystemExit("the hostile packets did harm")


def _settled(broker: psutil.Process) -> tuple[float, int]:
    """Return memory in MiB and open descriptors once the attackers' connections are gone."""
    time.sleep(3)
    return broker.memory_info().rss / 2**20, broker.num_fds()


def _unexpected(settings: Settings) -> int:
    """Return how many errors nobody had thought of; show one of each kind."""
    kinds: Counter[str] = Counter()
    for line in (settings.logs / "broker.main.log").read_bytes().splitlines():
        if b'"exception"' in line:
            entry = json.loads(line)
            trace = re.sub(r"0x[0-9a-f]+", "…", entry["exception"])
            kinds[f"{entry['event'].splitlines()[0]}: {trace[-900:]}"] += 1
    for kind, count in kinds.items():
        print(f"unexpected, {count} times: {kind}", flush=True)
    return kinds.total()


def _tell(warm: Damage, damage: Damage, seed: int) -> None:
    kinds = warm.kinds + damage.kinds
    print(
        f"seed {seed}; made {dict(kinds)}; {warm.closed + damage.closed:,} connections ended by"
        f" the broker, {warm.cut_off + damage.cut_off} of them since they did not read",
        flush=True,
    )


if __name__ == "__main__":
    main()
