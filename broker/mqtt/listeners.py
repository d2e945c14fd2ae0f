"""Where clients come in. A listener makes one `asyncio.Protocol` for each of them."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

Listener = Callable[[Callable[[], asyncio.Protocol]], Awaitable[asyncio.Server]]
"""Starts to listen; what it is given makes the protocol of a new connection."""

_BACKLOG = 4096


def tcp(host: str, port: int) -> Listener:
    """Return a listener for plain MQTT."""

    async def listen(make: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        server = await asyncio.get_running_loop().create_server(
            make, host, port, backlog=_BACKLOG, reuse_address=True
        )
        for listening in server.sockets:
            # Connections inherit it: clients without keep-alive that vanish are noticed by TCP.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return server

    return listen
