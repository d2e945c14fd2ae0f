"""amqtt as it is, as a process: `python -m benchmarks.support.stock PORT`. The baseline."""

import asyncio
import logging
import sys

import uvloop
from amqtt.broker import Broker


async def main(port: int) -> None:
    """Serve until killed; anybody may come."""
    logging.disable()
    broker = Broker(
        {
            "listeners": {
                "default": {
                    "type": "tcp",
                    "bind": f"127.0.0.1:{port}",
                    "max_connections": 20_000,
                }
            },
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    await broker.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
