"""What the demo must know at its next start; the engines' keys exist nowhere else."""

import os
from pathlib import Path
from uuid import UUID

import msgspec


class Memory(msgspec.Struct):
    """The demo's own things.

    Attributes:
        keys: Device key by device id; a real engine holds its own.
        engines: Device id by unit of the data set.
        webhook_secret: Of the receiver's endpoint.
        passes: Replays begun so far.
        last_ms: Time stamp of the newest cycle sent, epoch ms.
    """

    keys: dict[UUID, str] = {}
    engines: dict[int, UUID] = {}
    webhook_id: UUID | None = None
    webhook_secret: str | None = None
    receiver_port: int = 0
    passes: int = 0
    last_ms: int = 0

    @classmethod
    def load(cls, home: Path) -> "Memory":
        """Read what an earlier start kept."""
        try:
            return msgspec.json.decode(_file(home).read_bytes(), type=cls)
        except FileNotFoundError:
            return cls()

    def save(self, home: Path) -> None:
        """Keep it; the owner alone may read it."""
        file = _file(home)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_suffix(".new")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as output:
            output.write(msgspec.json.encode(self))
            output.flush()
            os.fsync(output.fileno())
        temporary.replace(file)


def _file(home: Path) -> Path:
    return home / "demo" / "memory.json"
