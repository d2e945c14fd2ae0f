"""What the supervisor needs to know of one process."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

Probe = Callable[[], Awaitable[None]]
"""Returns when the service answers; raises `OSError` or another error when it does not yet."""


@dataclass(frozen=True, slots=True)
class Service:
    """One supervised process.

    Attributes:
        name: What people call it; also its log file's name.
        command: Program and arguments.
        port: The port it listens on, checked for being free before the start.
        setting: The environment variable that changes the port, for the error message.
        prepare: Runs once before the first start (creating a data folder); blocking.
        probe: Tells whether it is ready.
        needs: Names of services that must be ready first.
        environment: Added to the environment of this process.
        user: System user and group to run as, when the program refuses root.
        stop_signal: The signal that asks it to stop in an orderly way.
        stop_timeout: Seconds until it is killed.
    """

    name: str
    command: tuple[str, ...]
    probe: Probe
    port: int | None = None
    setting: str = ""
    prepare: Callable[[], None] | None = None
    needs: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: int = 15
    stop_timeout: float = 15.0
    working_directory: Path | None = None
