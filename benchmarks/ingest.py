"""QoS 1 messages a second, acknowledged after the commit, against the raw COPY of the same rows.

50 connections, one metric a message, a profile with range, rate and interval, and a trigger on.
The raw COPY has the rows ready in PostgreSQL's binary form and as many connections as the broker
has flushers, so it is what the database can do at all. Both are run in turn, each from an empty
table; medians are reported, and the ratio is the median of the pairs' ratios.
"""

import argparse
import asyncio

from benchmarks.support.fleet import make_fleet
from benchmarks.support.rates import CONNECTIONS, WINDOW, copy_rate, ingest_rate
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, median, process


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=400_000, help="in each run")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs")
    parser.add_argument("--metrics", type=int, default=1, help="in each message, up to 20")
    parser.add_argument("--window", type=int, default=WINDOW, help="unacknowledged, a connection")
    options = parser.parse_args()
    with data_servers() as settings:
        fleet = asyncio.run(make_fleet(settings, CONNECTIONS))
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with process(settings, "broker.main", health):
            pairs = []
            for number in range(options.rounds + 1):
                through = ingest_rate(
                    settings, fleet, options.messages, options.metrics, options.window
                )
                raw = copy_rate(settings, fleet, options.messages, options.metrics)
                if number:  # the first pair warms everything up
                    pairs.append((through, raw))
    report(
        "ingest",
        median([through for through, _ in pairs]),
        "messages/s",
        median([raw for _, raw in pairs]),
        median([through / raw for through, raw in pairs]),
    )


if __name__ == "__main__":
    main()
