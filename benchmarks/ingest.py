"""QoS 1 messages a second, acknowledged after the commit, against the raw COPY of the same rows.

50 connections, one metric a message, a profile with range, rate and interval, and a trigger on.
The raw COPY has the rows ready in PostgreSQL's binary form and as many connections as the broker
has flushers, so it is what the database can do at all. Both are run in turn, each from an empty
table; medians are reported, and the ratio is the median of the pairs' ratios. Where Mosquitto is
installed, it takes the same load in turn with them; it stores nothing.
"""

import argparse
import asyncio

from benchmarks.support.fleet import make_fleet
from benchmarks.support.rates import (
    CONNECTIONS,
    WINDOW,
    copy_rate,
    ingest_rate,
    mosquitto_rate,
)
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, median, process


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=400_000, help="in each run")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs")
    parser.add_argument("--metrics", type=int, default=1, help="in each message, up to 20")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--window", type=int, default=WINDOW, help="unacknowledged, a connection")
    options = parser.parse_args()
    with data_servers() as settings:
        fleet = asyncio.run(make_fleet(settings, options.connections))
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with process(settings, "broker.main", health):
            pairs: list[tuple[float, float, float | None]] = []
            for number in range(options.rounds + 1):
                through = ingest_rate(
                    settings, fleet, options.messages, options.metrics, options.window
                )
                raw = copy_rate(settings, fleet, options.messages, options.metrics)
                bare = mosquitto_rate(fleet, options.messages, options.window)
                if number:  # the first pair warms everything up
                    pairs.append((through, raw, bare))
    others = [(through / bare, bare) for through, _, bare in pairs if bare is not None]
    more: dict[str, float] = {}
    if others:
        more["mosquitto"] = median([bare for _, bare in others])
        more["ratio_to_mosquitto"] = median([ratio for ratio, _ in others])
    report(
        "ingest",
        median([through for through, _, _ in pairs]),
        "messages/s",
        median([raw for _, raw, _ in pairs]),
        median([through / raw for through, raw, _ in pairs]),
        **more,
    )


if __name__ == "__main__":
    main()
