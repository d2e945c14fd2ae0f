"""What the supervisor needs to know of one part of the platform."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

Probe = Callable[[], Awaitable[None]]
"""Returns when the part answers; raises `OSError` or another error when it does not yet."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a service listens on.

    Attributes:
        number: The TCP port.
        setting: The environment variable that changes it, for the error message.
        host: The address it is bound to.
    """

    number: int
    setting: str
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Service:
    """One supervised process.

    Attributes:
        name: What people call it; also its log file's name.
        command: Program and arguments.
        probe: Tells whether it is ready.
        ports: Checked for being free before the start.
        prepare: Runs before each start (creating a data folder), so it must be idempotent;
            blocking.
        needs: Names of parts that must be ready first; it is stopped before them.
        environment: Added to the environment of this process.
        user: System user and group to run as, when the program refuses root.
        stop_signal: The signal that asks it to stop in an orderly way.
        stop_timeout: Seconds until it is killed.
        working_directory: Where it runs, if that matters.
        awaited: Whether the platform counts as ready only with it.
        niceness: Added to the scheduling priority value; higher yields to the others.
    """

    name: str
    command: tuple[str, ...]
    probe: Probe
    ports: tuple[Port, ...] = ()
    prepare: Callable[[], None] | None = None
    needs: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: int = 15
    stop_timeout: float = 15.0
    working_directory: Path | None = None
    awaited: bool = True
    niceness: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Something done once on the way up: migrations, or waiting for a server run by others.

    Attributes:
        name: What people call it.
        action: Does it; an error ends the start, unless `retry` says to try again.
        needs: Names of parts that must be ready first.
        retry: Seconds for which a failing action is tried again.
        awaited: Whether the platform counts as ready only with it.
    """

    name: str
    action: Callable[[], Awaitable[None]]
    needs: tuple[str, ...] = ()
    retry: float = 0.0
    awaited: bool = True


Part = Service | Step


def http_probe(url: str) -> Probe:
    """Return a probe that wants a 2xx answer from a plain HTTP address."""
    # Without certificates to load, a client costs microseconds and not 20 ms a probe.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    async def probe() -> None:
        async with httpx.AsyncClient(timeout=4, trust_env=False, verify=context) as client:
            (await client.get(url)).raise_for_status()

    return probe
