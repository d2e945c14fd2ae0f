"""The platform's own processes; the supervisor and container images start them by these.

Each imports its own process only: together they would take seconds.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from core.logging import configure_logging
from core.settings import load_settings
from core.temporal.names import TaskQueue


def api(home: Path | None) -> None:
    """Serve the API until a signal ends it."""
    configure_logging("api")
    from api.main import run

    uvloop.run(run(load_settings(home)))


def broker(home: Path | None) -> None:
    """Serve MQTT until a signal ends it."""
    if home is not None:
        os.environ["IOTLINKER_HOME"] = str(home)  # its own entry reads the settings
    from broker.main import main

    main()


def ingest(home: Path | None, given: Mapping[str, object]) -> None:
    """Ingest from another MQTT broker until a signal ends it; `given` overrides the settings."""
    from broker.external.main import main

    settings = load_settings(home)
    main(replace(settings, ingest=settings.ingest.model_copy(update=dict(given))))


def worker(home: Path | None, queues: Sequence[TaskQueue]) -> None:
    """Work on task queues until a signal ends it."""
    configure_logging("worker-" + "+".join(queues))
    from workers.worker import run

    uvloop.run(run(load_settings(home), queues))
