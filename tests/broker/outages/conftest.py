"""The data path under its supervisor, on a small file system of its own where that can be mounted.

One start for all tests here. They are run one after the other and leave everything running.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from core.db.session import Database
from core.settings import Settings, load_settings
from tests.support.data_path import DataPath, data_path
from tests.support.persistent import PersistentLoad
from tests.support.servers import free_port
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant

HIGH_WATER = 5_000
SIZE = "600m"
"""Of the file system, until a test makes it smaller."""

Devices = list[tuple[UUID, str]]
StartLoad = Callable[..., PersistentLoad]


class Disk:
    """The file system that PostgreSQL is on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def free(self) -> int:
        """Bytes that are free."""
        now = os.statvfs(self.folder)
        return now.f_bfree * now.f_frsize

    def fill(self, left: int) -> None:
        """Make it so small that about `left` bytes are free."""
        used = os.statvfs(self.folder)
        taken = (used.f_blocks - used.f_bfree) * used.f_frsize
        self._resize(str(taken + left))

    def empty(self) -> None:
        """Give it its space back."""
        self._resize(SIZE)

    def _resize(self, size: str) -> None:
        subprocess.run(
            ["/bin/mount", "-o", f"remount,size={size}", str(self.folder)], check=True, timeout=10
        )


@pytest.fixture(scope="package")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk | None]:
    """A small file system; None where this user may mount nothing."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, timeout=10).returncode:
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True, timeout=30)


@pytest.fixture(scope="package")
def own_settings(disk: Disk | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings that the processes find in the environment while a test of this folder runs."""
    home = tmp_path_factory.mktemp("home") if disk is None else disk.folder / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE", "VALKEY", "API", "BROKER", "BROKER_METRICS", "TEMPORAL", "MLFLOW"):
            patch.setenv(f"IOTLINKER_{name}_PORT", str(free_port()))
        patch.setenv("IOTLINKER_HOME", str(home))
        patch.setenv("IOTLINKER_BROKER_HIGH_WATER", str(HIGH_WATER))
        patch.setenv("IOTLINKER_BROKER_LOW_WATER", str(HIGH_WATER // 4))
        patch.setenv("IOTLINKER_DATABASE_STATEMENT_TIMEOUT", "3")
        yield load_settings()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def path(own_settings: Settings) -> AsyncIterator[DataPath]:
    """PostgreSQL, Valkey and broker, running."""
    parts = ("postgres", "valkey", "roles", "schema", "broker")
    async with data_path(own_settings, parts) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def devices(path: DataPath) -> Devices:
    """New devices of a new tenant."""
    owner = Database.connect(path.settings, "owner")
    try:
        tenant_id = await make_tenant(owner)
        profile_id = await make_profile(owner, tenant_id)
        made: list[MadeDevice] = [await make_device(owner, tenant_id, profile_id) for _ in range(8)]
    finally:
        await owner.close()
    return [(device.id, device.key) for device in made]


@pytest_asyncio.fixture(loop_scope="package")
async def load(path: DataPath, devices: Devices) -> AsyncIterator[StartLoad]:
    """Starts all devices; they are stopped at the end, whatever happened."""
    started: list[PersistentLoad] = []

    def start(
        devices: Devices = devices, *, window: int = 500, rate: float | None = 1_000.0
    ) -> PersistentLoad:
        broker = path.settings.broker
        one = PersistentLoad(broker.host, broker.port, devices, window=window, rate=rate)
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        await asyncio.to_thread(one.abandon)
