"""Where clients come in. A listener makes one `asyncio.Protocol` for each of them."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple, Protocol

Make = Callable[[], asyncio.Protocol]
"""Makes the protocol of a new connection."""
Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a short task that the server ends when it closes."""


class Listening(Protocol):
    """What listens until it is closed."""

    def close(self) -> None:
        """Take no new connections."""
        ...


class Door(NamedTuple):
    """The way into the server.

    Attributes:
        knock: Tells whether an address may connect now. Who asks it before TLS must; whoever comes
            without TLS is asked by the server.
    """

    make: Make
    spawn: Spawn
    knock: Callable[[str], bool]


Listener = Callable[[Door], Awaitable[Listening]]
"""Starts to listen."""

BACKLOG: Final = 4096


def tcp(host: str, port: int, *, shared: bool = False) -> Listener:
    """Return a listener for plain TCP.

    Args:
        host: Address or name; empty is every address.
        port: Port.
        shared: Whether other processes listen there too: the system deals connections out.
    """

    async def listen(door: Door) -> Listening:
        server = await asyncio.get_running_loop().create_server(
            door.make, host, port, backlog=BACKLOG, reuse_address=True, reuse_port=shared or None
        )
        for listening in server.sockets:
            keep_alive(listening)
        return server

    return listen


def keep_alive(listening: socket.socket) -> None:
    """Let TCP notice clients that vanish without an MQTT keep-alive; connections inherit it."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
