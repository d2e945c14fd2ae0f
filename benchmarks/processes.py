"""Two broker processes at one port against one, each pinned to a core of its own.

The same load as in `ingest`, by one process, over connections that the system deals out. The ratio
is that of the rates, the median of pairs. On a machine whose few cores also run PostgreSQL and the
load, it says what is left for a second process there, not what a second process can do; so the
processor time that the brokers take for a message is reported too. `capacity_ratio` is what
follows from it: what two processes could take with a core each to themselves, to what one could.
"""

import argparse
import asyncio
import dataclasses
import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.support.fleet import Fleet, make_fleet
from benchmarks.support.rates import CONNECTIONS, ingest_rate
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, median
from core.settings import Settings
from tests.support.servers import running
from workers.stack.own import brokers

_WARM_UP = 20_000  # messages


class Run(NamedTuple):
    """What came of one run: messages a second, and processor time of the brokers for each."""

    rate: float
    microseconds: float


def pin(pid: int, core: int) -> None:
    """Keep all threads of a process on one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def busy(pids: list[int]) -> float:
    """Return the seconds of processor time that processes have taken."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(time.user + time.system for time in times)


def measure(settings: Settings, fleet: Fleet, processes: int, messages: int) -> Run:
    """Run the load against so many broker processes."""
    cores = sorted(os.sched_getaffinity(0))
    shared = settings.broker.model_copy(update={"processes": processes})
    settings = dataclasses.replace(settings, broker=shared)
    with ExitStack() as stack:
        pids = [stack.enter_context(running(service, settings)) for service in brokers(settings)]
        for number, pid in enumerate(pids):
            pin(pid, cores[number % len(cores)])
        ingest_rate(settings, fleet, _WARM_UP, 1)
        before = busy(pids)
        rate = ingest_rate(settings, fleet, messages, 1)
        took = busy(pids) - before
    return Run(rate, took / messages * 1e6)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=300_000, help="in each run")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    options = parser.parse_args()
    os.environ["IOTLINKER_BROKER_PROCESSES"] = "2"  # so that the port is shared
    with data_servers() as settings:
        fleet = asyncio.run(make_fleet(settings, CONNECTIONS))
        pairs = [
            (
                measure(settings, fleet, 1, options.messages),
                measure(settings, fleet, 2, options.messages),
            )
            for _ in range(options.rounds)
        ]
    one = median([first.microseconds for first, _ in pairs])
    two = median([second.microseconds for _, second in pairs])
    report(
        "processes",
        median([second.rate for _, second in pairs]),
        "messages/s",
        median([first.rate for first, _ in pairs]),
        median([second.rate / first.rate for first, second in pairs]),
        broker_us_per_message_1=one,
        broker_us_per_message_2=two,
        capacity_ratio=2 * one / two,
    )


if __name__ == "__main__":
    main()
