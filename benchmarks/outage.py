"""A part of the data path stands still for a minute under load: what devices and memory feel.

PostgreSQL or Valkey is stopped with SIGSTOP, as a hanging machine would, while devices send
numbered QoS 1 messages. The value reported is what was acknowledged and is not stored; beside it
the acknowledgements during the outage, the time from its end to the first message sent afterwards
and acknowledged, and the broker's memory.
"""

import argparse
import asyncio
import signal
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.support.fleet import make_fleet
from benchmarks.support.result import report
from benchmarks.support.stack import own_ports
from core.settings import load_settings
from tests.support.data_path import data_path, stored
from tests.support.persistent import PersistentLoad
from tests.support.waiting import eventually

DEVICES, WINDOW = 50, 20_000


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("postgres", "valkey"), default="postgres")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=5_000, help="messages a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="iotlinker-outage-") as home:
        own_ports(Path(home))
        asyncio.run(_measure(options))


async def _measure(options: argparse.Namespace) -> None:
    settings = load_settings()
    async with data_path(settings) as path:
        fleet = await make_fleet(settings, DEVICES)
        broker = psutil.Process(path.pid("broker"))
        mqtt = settings.broker
        load = PersistentLoad(mqtt.host, mqtt.port, fleet.devices, window=WINDOW, rate=options.rate)
        load.start()
        await asyncio.sleep(10)
        before, memory = load.acknowledged, broker.memory_info().rss
        path.signal(options.part, signal.SIGSTOP)
        highest, ends = memory, time.monotonic() + options.seconds
        try:
            while time.monotonic() < ends:
                await asyncio.sleep(0.5)
                highest = max(highest, broker.memory_info().rss)
        finally:
            path.signal(options.part, signal.SIGCONT)
        during, sent, continued = load.acknowledged - before, load.sent, time.monotonic()
        await eventually(lambda: load.acknowledged > sent, timeout=180)
        recovered = time.monotonic() - continued
        await asyncio.to_thread(load.stop, 180.0)
        kept = await stored(settings, load)
        same = path.part("broker").restarts == 0
    report(
        f"outage_{options.part}",
        kept.missing,
        "messages lost",
        load.acknowledged,
        kept.missing / load.acknowledged,
        seconds=options.seconds,
        rate=options.rate,
        acknowledged_during=during,
        acknowledged=load.acknowledged,
        stored=kept.rows,
        stored_twice=kept.twice,
        longest_pause=round(load.longest_pause, 1),
        recovered_seconds=round(recovered, 1),
        reconnections=load.connections - DEVICES,
        broker_mib_before=memory >> 20,
        broker_mib_highest=highest >> 20,
        same_process=str(same),
    )
    if kept.missing or kept.twice or not same:
        raise SystemExit("the outage cost something")


if __name__ == "__main__":
    main()
