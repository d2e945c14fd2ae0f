"""Runs the workers that an import needs, as a process of its own that tests may kill."""

import asyncio

from activities.resources import open_resources
from activities.telemetry_import import ImportActivities
from core.settings import load_settings
from core.temporal.client import connect
from core.temporal.names import TaskQueue
from tests.support.durable import working
from workflows.telemetry_import import TelemetryImport


async def _main() -> None:
    settings = load_settings()
    client = await connect(settings)
    async with (
        open_resources(settings) as resources,
        working(client, [TelemetryImport], {TaskQueue.MAINTENANCE: [ImportActivities(resources)]}),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
