"""A broker that lets anybody in, as a process: `python -m tests.support.open_broker KEY`.

Everybody is the device of this key. Tests kill it; people try other clients on it.
"""

import sys

import uvloop

from broker.database import IngestDatabase
from broker.main import run
from broker.mqtt.auth import Authenticator
from core.settings import load_settings
from tests.support.mqtt import AllowAll


async def main(key: str) -> None:
    """Run until told to stop."""
    settings = load_settings()
    database = IngestDatabase(settings)
    row = await Authenticator(database).sign_in(key, None)
    await database.close()
    await run(settings, AllowAll(row))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
