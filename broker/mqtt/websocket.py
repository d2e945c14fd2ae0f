"""MQTT over WebSocket: between a transport and a connection (RFC 6455; MQTT 3.1.1, section 6).

The subprotocol is `mqtt`, the path `/mqtt`, frames are binary. A frame may hold any piece of the
stream, so a packet may span frames and fragments [MQTT-6.0.0-1 to -3].

Origin: clients that are no browsers send none, and may come. A browser's page may come when it was
loaded from the host it calls, or from an origin in the settings: a certificate in the browser
would otherwise sign in for any page.

Bounds: a message of at most `MAX_FRAME` bytes, fragments together; a request of at most some 100
KiB, by the library; and the time for both is that for CONNECT.
"""

from __future__ import annotations

import asyncio
import http
import logging
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import urlsplit

from websockets.datastructures import MultipleValuesError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from broker.mqtt.listeners import Door, Listener, Listening

PATH: Final = "/mqtt"
MAX_FRAME: Final = 1024 * 1024
"""Bytes of a WebSocket message; one holds many packets, or a part of one."""
_SUBPROTOCOL: Final = Subprotocol("mqtt")
_ANY: Final = "*"

# The library tells of every connection that opens or is rejected.
_quiet: Final = logging.getLogger(f"{__name__}.library")
_quiet.setLevel(logging.ERROR)


def websocket(listener: Listener, origins: Collection[str]) -> Listener:
    """Return a listener for MQTT over WebSocket on top of one for TCP or TLS.

    Args:
        listener: Where bytes come from.
        origins: Origins whose pages may come, beside the host's own; `*` is any.
    """
    allowed = frozenset(origins)

    async def listen(door: Door) -> Listening:
        def make() -> WebSocketProtocol:
            return WebSocketProtocol(door.make(), allowed)

        return await listener(door._replace(make=make))

    return listen


class WebSocketProtocol(asyncio.Protocol):
    """One client's WebSocket: a protocol to the transport, and a transport to the connection."""

    __slots__ = ("_inner", "_origins", "_socket", "_transport")

    _transport: Any

    def __init__(self, inner: asyncio.Protocol, origins: frozenset[str]) -> None:
        self._inner = inner
        self._origins = origins
        self._socket = ServerProtocol(
            subprotocols=[_SUBPROTOCOL], max_size=MAX_FRAME, logger=_quiet
        )

    # --- called by the transport -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport
        self._inner.connection_made(self)  # type: ignore[arg-type]  # what it needs of one

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._inner.resume_writing()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self._socket.receive_eof()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._socket.receive_data(data)
        pieces: list[bytes] = []
        while events := self._socket.events_received():
            for event in events:
                if isinstance(event, Request):
                    self._answer(event)
                elif isinstance(event, Frame):
                    self._take(event, pieces)
        self._flush()
        if pieces:
            self._inner.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._socket.close_expected():
            self._transport.close()

    def _answer(self, request: Request) -> None:
        if request.path.partition("?")[0] != PATH:
            response = self._socket.reject(http.HTTPStatus.NOT_FOUND, f"MQTT is at {PATH}.\n")
        elif not self._welcome(request):
            response = self._socket.reject(http.HTTPStatus.FORBIDDEN, "Not from this origin.\n")
        else:
            response = self._socket.accept(request)
        self._socket.send_response(response)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._flush()
            self._transport.close()

    def _welcome(self, request: Request) -> bool:
        try:
            origin, host = request.headers.get("Origin"), request.headers.get("Host")
        except MultipleValuesError:
            return False
        if origin is None or _ANY in self._origins or origin in self._origins:
            return True
        return host is not None and urlsplit(origin).netloc == host

    def _take(self, frame: Frame, pieces: list[bytes]) -> None:
        match frame.opcode:
            case Opcode.BINARY | Opcode.CONT:
                if frame.data:
                    pieces.append(bytes(frame.data))
            case Opcode.TEXT:
                self._socket.fail(CloseCode.UNSUPPORTED_DATA, "binary frames only [MQTT-6.0.0-1]")
            case _:
                pass  # the library answers PING and CLOSE

    def _flush(self) -> None:
        for data in self._socket.data_to_send():
            if data:
                self._transport.write(data)

    # --- called by the connection ----------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes as one frame."""
        if self._socket.state is State.OPEN:
            self._socket.send_binary(data)
            self._flush()

    def close(self) -> None:
        """Close in order, after what has been written."""
        if self._socket.state is State.OPEN:
            self._socket.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.WriteTransport`."""
        self._transport.set_write_buffer_limits(high=high, low=low)

    def get_write_buffer_size(self) -> int:
        """See `asyncio.WriteTransport`."""
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`."""
        return self._transport.get_extra_info(name, default)
