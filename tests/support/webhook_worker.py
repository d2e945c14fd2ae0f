"""Runs the workers that webhooks need, as a process of its own that tests may kill."""

import asyncio

from activities.resources import open_resources
from activities.webhooks import WebhookActivities
from core.settings import load_settings
from core.temporal.client import connect
from core.temporal.names import TaskQueue
from tests.support.durable import working
from workflows.webhook_delivery import WebhookDelivery


async def _main() -> None:
    settings = load_settings()
    client = await connect(settings)
    async with (
        open_resources(settings) as resources,
        working(client, [WebhookDelivery], {TaskQueue.OUTBOUND: [WebhookActivities(resources)]}),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
