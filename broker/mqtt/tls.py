"""TLS listeners, and certificates that can be renewed without a restart.

Connections are accepted here and not by `create_server`, for three reasons: each handshake uses the
newest certificate; handshakes under way are bounded, together and by address; and an address that
comes too often is turned away before it costs a handshake.

A client may show a certificate when `client_ca_file` is set. Python's `ssl` cannot accept a chain
that it does not trust, so there is no way to let every certificate through and judge it by its
fingerprint alone: the bundle names whom the handshake trusts (authorities, or single certificates,
as `X509_V_FLAG_PARTIAL_CHAIN` lets any certificate in the bundle end a chain). What a certificate
is worth is decided by its SHA-256 in the database, as for keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections import Counter
from pathlib import Path
from typing import Final

import structlog

from broker.mqtt.listeners import BACKLOG, Door, Listener, Listening, keep_alive

_log = structlog.get_logger(__name__)

HANDSHAKE: Final = 10.0
"""Seconds for a handshake."""
_SHUTDOWN: Final = 2.0  # seconds for the client's close_notify
_HANDSHAKES: Final = 512  # under way in one process; more wait in the listening socket's backlog
_OF_ADDRESS: Final = 128  # under way from one address
_AT_ONCE: Final = 64  # accepted before other connections have their turn
_LOOK: Final = 5.0  # seconds between looks at the files
_NO_FILES_PAUSE: Final = 0.5  # seconds without accepting when the process may open no more files
_OUT_OF_FILES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Certificates:
    """The server's certificate, and whom it trusts to sign those of clients.

    Attributes:
        context: What the next handshake uses.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        """Load the files.

        Raises:
            OSError, ssl.SSLError: They are missing, damaged, or do not belong together.
        """
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._loaded = self._marks()
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.load_cert_chain(self._certificate, self._key)
        if self._client_ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_verify_locations(self._client_ca)
        return context

    def _marks(self) -> list[tuple[int, int, int]]:
        files = [self._certificate, self._key, self._client_ca]
        stats = [file.stat() for file in files if file is not None]
        return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]

    def reload(self) -> bool:
        """Use the files as they are now; damaged ones are reported and the old ones stay.

        Returns:
            Whether they could be used.
        """
        try:
            marks = self._marks()
            self.context = self._load()
        except OSError as error:  # ssl.SSLError is one
            _log.error("new certificates cannot be used; the old ones stay", reason=str(error))
            return False
        self._loaded = marks
        _log.info("certificates loaded", file=str(self._certificate))
        return True

    async def watch(self) -> None:
        """Take over renewed files, until cancelled.

        Certificate and key may be replaced one after the other: what does not belong together yet
        is tried again at the next look.
        """
        while True:
            await asyncio.sleep(_LOOK)
            with contextlib.suppress(FileNotFoundError):  # being replaced
                if self._marks() != self._loaded:
                    self.reload()


class _TlsServer:
    def __init__(
        self, sockets: list[socket.socket], certificates: Certificates, door: Door
    ) -> None:
        self._sockets = sockets
        self._certificates = certificates
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._under_way: Counter[str] = Counter()
        self._count = 0
        self._accepting = False
        self._closed = False
        self._accept_more()

    def _accept_more(self) -> None:
        if not self._accepting and not self._closed:
            self._accepting = True
            for listening in self._sockets:
                self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept_none(self) -> None:
        if self._accepting:
            self._accepting = False
            for listening in self._sockets:
                self._loop.remove_reader(listening.fileno())

    def close(self) -> None:
        """Take no new connections."""
        self._accept_none()
        self._closed = True
        for listening in self._sockets:
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if self._count >= _HANDSHAKES:
                self._accept_none()
                return
            try:
                client, address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:
                    raise
                _log.error("no connection can be accepted", reason=str(error))
                self._accept_none()
                self._loop.call_later(_NO_FILES_PAUSE, self._accept_more)
                return
            host = address[0]
            if self._under_way[host] >= _OF_ADDRESS or not self._door.knock(host):
                client.close()
                continue
            client.setblocking(False)
            self._count += 1
            self._under_way[host] += 1
            self._door.spawn(self._greet(client, host))

    async def _greet(self, client: socket.socket, host: str) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._door.make,
                client,
                ssl=self._certificates.context,
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=_SHUTDOWN,
            )
        except OSError as error:  # no TLS, no version in common, a certificate nobody vouches for
            _log.info("no handshake", peer=host, reason=str(error))
        finally:
            self._count -= 1
            self._under_way[host] -= 1
            if not self._under_way[host]:
                del self._under_way[host]
            if self._count < _HANDSHAKES:
                self._accept_more()


def tls(host: str, port: int, certificates: Certificates, *, shared: bool = False) -> Listener:
    """Return a listener for TLS; see `broker.mqtt.listeners.tcp` for the arguments."""

    async def listen(door: Door) -> Listening:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listening = socket.socket(family, kind, protocol)
                sockets.append(listening)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if shared:
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family is socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                keep_alive(listening)
                listening.setblocking(False)
                listening.bind(address)
                listening.listen(BACKLOG)
        except BaseException:
            for listening in sockets:
                listening.close()
            raise
        return _TlsServer(sockets, certificates, door)

    return listen
