"""Somebody else's server: receives webhooks and believes none that is not signed."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass(slots=True)
class Received:
    """What arrived.

    Attributes:
        bodies: The body of every verified `webhook-id`.
        repeated: Deliveries of an id that was there before, with the same body.
        altered: Ids that came with two bodies; none ever should.
        rejected: Requests whose signature was wrong or missing.
    """

    bodies: dict[str, bytes] = field(default_factory=dict)
    repeated: int = 0
    altered: set[str] = field(default_factory=set)
    rejected: int = 0

    def take(self, message_id: str, body: bytes) -> None:
        """Count a verified delivery."""
        known = self.bodies.get(message_id)
        if known is None:
            self.bodies[message_id] = body
        elif known == body:
            self.repeated += 1
        else:
            self.altered.add(message_id)


class Receiver:
    """A webhook receiver on loopback.

    Attributes:
        secret: The endpoint's signing secret; whatever comes before it is known is refused.
    """

    def __init__(self) -> None:
        self.secret: str | None = None
        self.received = Received()
        self._lock = threading.Lock()
        self.port = 0
        """Where it listens."""

    @property
    def url(self) -> str:
        """The address to deliver to."""
        return f"http://127.0.0.1:{self.port}/webhooks"

    @contextmanager
    def serving(self, wanted: int = 0) -> Generator[None]:
        """Listen while the block runs, at a free port when the wanted one is taken."""
        with self._server(wanted) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def _server(self, port: int) -> ThreadingHTTPServer:
        try:
            return ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        except OSError:
            return ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def accept(self, headers: dict[str, str], body: bytes) -> bool:
        """Verify and count one request; False when it is not what the secret signed."""
        with self._lock:
            if not self._verified(headers, body):
                self.received.rejected += 1
                return False
            self.received.take(headers["webhook-id"], body)
            return True

    def _verified(self, headers: dict[str, str], body: bytes) -> bool:
        if self.secret is None:
            return False
        try:
            Webhook(self.secret).verify(body, headers)
        except (WebhookVerificationError, ValueError):  # the latter: a body that is no JSON
            return False
        return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(204 if receiver.accept(headers, body) else 401)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name)
                """Stay silent: the counts are shown instead."""

        return Handler
