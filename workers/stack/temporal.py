"""The embedded Temporal: the development server with a file database."""

import sys
from pathlib import Path

from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client

from core.settings import Settings
from core.temporal.names import SEARCH_ATTRIBUTES
from workers.stack.service import Port, Service


def temporal(settings: Settings) -> Service:
    """Describe the embedded Temporal server."""
    folder = settings.home / "temporal"

    async def probe() -> None:
        client = await Client.connect(settings.temporal_address, lazy=True)
        await client.workflow_service.get_system_info(GetSystemInfoRequest(), retry=False)

    attributes: list[str] = []
    for name, kind in SEARCH_ATTRIBUTES.items():
        attributes += ["--search-attribute", f"{name}={kind}"]
    return Service(
        name="temporal",
        command=(
            str(Path(sys.executable).parent / "temporal"),
            "server",
            "start-dev",
            "--ip=127.0.0.1",
            f"--port={settings.temporal.port}",
            f"--ui-port={settings.temporal.ui_port}",
            f"--db-filename={folder / 'temporal.db'}",
            "--sqlite-pragma=journal_mode=wal",
            "--sqlite-pragma=synchronous=normal",
            # One partition is faster than four on one machine, see docs/architecture.md.
            "--dynamic-config-value=matching.numTaskqueueReadPartitions=1",
            "--dynamic-config-value=matching.numTaskqueueWritePartitions=1",
            "--log-level=warn",
            *attributes,
        ),
        ports=(
            Port(settings.temporal.port, "IOTLINKER_TEMPORAL_PORT"),
            Port(settings.temporal.ui_port, "IOTLINKER_TEMPORAL_UI_PORT"),
        ),
        prepare=lambda: folder.mkdir(parents=True, exist_ok=True),
        probe=probe,
    )
