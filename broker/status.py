"""The broker's HTTP port: `/healthz` and `/metrics`, for a supervisor and Prometheus."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from broker.metrics import BrokerMetrics

_TIMEOUT: Final = 5.0  # seconds for a request
_LIMIT: Final = 8 * 1024


@asynccontextmanager
async def status_server(
    host: str, port: int, metrics: BrokerMetrics, healthy: Callable[[], str | None]
) -> AsyncGenerator[None]:
    """Serve until the end of the block.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        metrics: What `/metrics` shows.
        healthy: Returns None, or what is wrong.
    """

    def answer(path: str) -> tuple[str, str, bytes]:
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_LATEST, generate_latest(metrics.registry)
        if path == "/healthz":
            wrong = healthy()
            if wrong is None:
                return "200 OK", "text/plain", b"ok\n"
            return "503 Service Unavailable", "text/plain", f"{wrong}\n".encode()
        return "404 Not Found", "text/plain", b"/healthz or /metrics\n"

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                request = await reader.readuntil(b"\r\n\r\n")
                words = request.split(b"\r\n", 1)[0].split(b" ")
                path = words[1].decode("latin-1") if len(words) == 3 else ""
                status, kind, body = answer(path)
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
                    "\r\nConnection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            writer.close()

    server = await asyncio.start_server(connected, host, port, limit=_LIMIT)
    try:
        yield
    finally:
        server.close()
