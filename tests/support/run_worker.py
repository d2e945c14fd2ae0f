"""Runs a worker of the given queues as a process of its own that tests may kill."""

import asyncio
import sys

from core.logging import configure_logging
from core.settings import load_settings
from core.temporal.names import TaskQueue
from workers.worker import run

if __name__ == "__main__":
    configure_logging("test-worker")
    asyncio.run(run(load_settings(), [TaskQueue(name) for name in sys.argv[1:]]))
