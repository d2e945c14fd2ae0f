"""Values a second at 5 and 20 metrics a message, otherwise as `benchmarks.ingest` measures.

The reported value is that at 20 metrics, its baseline the values a second of the raw COPY of the
same rows; `values_5` is the figure at 5.
"""

import argparse
import asyncio

from benchmarks.support.fleet import make_fleet
from benchmarks.support.rates import CONNECTIONS, copy_rate, ingest_rate
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, median, process

NARROW, WIDE = 5, 20


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000, help="in each run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind")
    options = parser.parse_args()
    with data_servers() as settings:
        fleet = asyncio.run(make_fleet(settings, CONNECTIONS))
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with process(settings, "broker.main", health):
            rounds = []
            for number in range(options.rounds + 1):
                wide = WIDE * ingest_rate(settings, fleet, options.messages, WIDE)
                raw = WIDE * copy_rate(settings, fleet, options.messages, WIDE)
                narrow = NARROW * ingest_rate(settings, fleet, options.messages, NARROW)
                if number:  # the first round warms everything up
                    rounds.append((wide, raw, narrow))
    report(
        "ingest_wide",
        median([wide for wide, _, _ in rounds]),
        "values/s",
        median([raw for _, raw, _ in rounds]),
        median([wide / raw for wide, raw, _ in rounds]),
        values_5=round(median([narrow for _, _, narrow in rounds])),
    )


if __name__ == "__main__":
    main()
