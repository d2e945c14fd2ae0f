"""The broker's HTTP port on loopback: `/healthz`, `/metrics`, and the intake of messages.

Served by uvicorn: callers of the intake keep their connections.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from broker.http_intake import BusyError, ForbiddenError, HttpIntake
from broker.metrics import BrokerMetrics
from core.intake import MAX_BODY, PATH

_BODY_TIMEOUT: Final = 10.0  # seconds for a request's body
_STOP: Final = 5  # seconds that requests under way have at the end
_RETRY_AFTER: Final = b"1"
_TEXT: Final = "text/plain"

Answer = tuple[int, str, bytes]
Receive = Callable[[], Any]


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the process."""
        yield


class _Application:
    def __init__(
        self,
        metrics: BrokerMetrics,
        healthy: Callable[[], str | None],
        intake: HttpIntake | None,
    ) -> None:
        self._metrics = metrics
        self._healthy = healthy
        self._intake = intake

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status, kind, body = await self._answer(scope, receive)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        if status == 503:
            headers.append((b"retry-after", _RETRY_AFTER))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> Answer:
        match scope["method"], scope["path"]:
            case "GET", "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
            case "GET", "/healthz":
                wrong = self._healthy()
                return (
                    (200, _TEXT, b"ok\n") if wrong is None else (503, _TEXT, f"{wrong}\n".encode())
                )
            case "POST", path if path == PATH and self._intake is not None:
                return await _take(self._intake, dict(scope["headers"]), receive)
            case _:
                return 404, _TEXT, b"/healthz or /metrics\n"


async def _take(intake: HttpIntake, headers: dict[bytes, bytes], receive: Receive) -> Answer:
    if not intake.authorized(headers.get(b"authorization", b"")):
        return 401, _TEXT, b"wrong key\n"
    announced = headers.get(b"content-length", b"")
    if not announced.isdigit():
        return 411, _TEXT, b"announce the length\n"
    size = int(announced)
    if size > MAX_BODY:
        return 413, _TEXT, b"too long\n"
    try:
        with intake.admitted(size):
            async with asyncio.timeout(_BODY_TIMEOUT):
                body = await _body(receive)
            return 200, "application/msgpack", await intake.take(body)
    except BusyError as error:
        return 503, _TEXT, f"{str(error).capitalize()}.".encode()
    except ForbiddenError as error:
        return 403, _TEXT, f"{str(error).capitalize()}.".encode()
    except (msgspec.DecodeError, EOFError, TimeoutError) as error:
        return 400, _TEXT, f"{error!r}\n".encode()


async def _body(receive: Receive) -> bytes:
    """Return the whole body; the server ends it at its announced length."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise EOFError("the caller went away")
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


@asynccontextmanager
async def status_server(
    host: str,
    port: int,
    metrics: BrokerMetrics,
    healthy: Callable[[], str | None],
    intake: HttpIntake | None = None,
) -> AsyncGenerator[None]:
    """Serve until the end of the block.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        metrics: What `/metrics` shows.
        healthy: Returns None, or what is wrong.
        intake: Takes messages that did not come over MQTT.

    Raises:
        OSError: The port is taken.
    """
    # Bound here: uvicorn would end the process when the port is taken.
    listener = socket.create_server((host, port), backlog=256)
    server = _Server(
        uvicorn.Config(
            _Application(metrics, healthy, intake),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=_STOP,
            timeout_keep_alive=75,  # longer than callers keep connections, so that they end them
            limit_concurrency=256,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
