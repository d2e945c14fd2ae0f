"""Where clients come in. A listener makes one `asyncio.Protocol` for each of them."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

Make = Callable[[], asyncio.Protocol]
"""Makes the protocol of a new connection."""
Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Runs a short task that the server ends when it closes."""


class Listening(Protocol):
    """What listens until it is closed."""

    def close(self) -> None:
        """Take no new connections."""
        ...


Listener = Callable[[Make, Spawn], Awaitable[Listening]]
"""Starts to listen."""

BACKLOG: Final = 4096


def tcp(host: str, port: int, *, shared: bool = False) -> Listener:
    """Return a listener for plain TCP.

    Args:
        host: Address or name; empty is every address.
        port: Port.
        shared: Whether other processes listen there too: the system deals connections out.
    """

    async def listen(make: Make, _: Spawn) -> Listening:
        server = await asyncio.get_running_loop().create_server(
            make, host, port, backlog=BACKLOG, reuse_address=True, reuse_port=shared or None
        )
        for listening in server.sockets:
            keep_alive(listening)
        return server

    return listen


def keep_alive(listening: socket.socket) -> None:
    """Let TCP notice clients that vanish without an MQTT keep-alive; connections inherit it."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
