"""What ingest makes of 1,000 telemetry triggers and 100 WebSocket clients, against none of them.

Both sides are measured as `benchmarks.ingest` does, on one broker, in turn. The plain one has one
trigger. The loaded one's devices belong to 100 profiles of another tenant, whose 1,000 automations
have a trigger each, ten to a profile; and every device is watched by two clients of the real API,
which take its measurements in batches. The value is the loaded side's messages a second, the ratio
the median of the pairs'.
"""

import argparse
import asyncio
from typing import Final

from benchmarks.support.fleet import make_fleet
from benchmarks.support.live import access_token, audience, make_account
from benchmarks.support.rates import CONNECTIONS, ingest_rate
from benchmarks.support.result import report
from benchmarks.support.stack import data_servers, median, process

PROFILES: Final = 100
TRIGGERS: Final = 10  # of each profile
CLIENTS: Final = 100


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=400_000, help="in each run")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs")
    options = parser.parse_args()
    with data_servers() as settings:
        plain = asyncio.run(make_fleet(settings, CONNECTIONS))
        tenant_id = asyncio.run(make_account(settings))
        loaded = asyncio.run(
            make_fleet(settings, CONNECTIONS, tenant_id, profiles=PROFILES, triggers=TRIGGERS)
        )
        watched = [loaded.devices[number % CONNECTIONS][0] for number in range(CLIENTS)]
        health = f"http://127.0.0.1:{settings.broker.metrics_port}/healthz"
        with (
            process(settings, "broker.main", health),
            process(settings, "workers.cli", f"{settings.api_url}/healthz", "api"),
        ):
            token = asyncio.run(access_token(settings))
            pairs: list[tuple[float, float]] = []
            for number in range(options.rounds + 1):
                without = ingest_rate(settings, plain, options.messages, 1)
                with audience(token, watched):
                    pair = ingest_rate(settings, loaded, options.messages, 1), without
                if number:  # the first pair warms everything up
                    pairs.append(pair)
    report(
        "ingest_loaded",
        median([loaded for loaded, _ in pairs]),
        "messages/s",
        median([plain for _, plain in pairs]),
        median([loaded / plain for loaded, plain in pairs]),
        triggers=PROFILES * TRIGGERS,
        clients=CLIENTS,
    )


if __name__ == "__main__":
    main()
