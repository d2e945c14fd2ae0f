"""A broker that lets anybody in, as a process: `python -m tests.support.open_broker DEVICE TENANT`.

Everybody is that device. Tests kill it; people try other clients on it.
"""

import sys
from uuid import UUID, uuid4

import uvloop

from broker.main import run
from core.db.repositories.ingest_devices import DeviceRow
from core.settings import load_settings
from tests.support.mqtt import AllowAll

if __name__ == "__main__":
    device, tenant = (UUID(argument) for argument in sys.argv[1:3])
    row = DeviceRow(uuid4(), device, tenant, "any", "engine", "active", True, "{}", None)
    uvloop.run(run(load_settings(), AllowAll(row)))
