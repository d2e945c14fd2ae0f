"""A connection to an MQTT broker, as its client.

Messages come by the chunk to one handler, and nothing more is read while it runs: so a full
ingest queue slows the broker down by its own rules (`receive_maximum` in MQTT 5, its limit of
messages in flight in 3.1.1, and TCP in the end), and memory does not grow. An acknowledgement goes
out on the connection that brought the message or not at all; the broker sends it again then.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

import structlog

from broker.external import packets
from broker.external.packets import Limits, PacketReader, ProtocolError, Publish, Reply
from core.errors import ConfigurationError
from core.settings.processes import IngestSettings

_log = structlog.get_logger(__name__)

_CHUNK: Final = 256 * 1024
_ANSWER: Final = 10.0  # seconds for CONNACK, SUBACK and PUBACK
_KEEP_ALIVE: Final = 30  # seconds
_UNSUPPORTED: Final = (0x01, 0x84)  # reasons of a broker that does not speak this version
_OVERHEAD: Final = 4096  # bytes of a packet beside the payload

Handler = Callable[["Link", list[Publish]], Awaitable[None]]


class RefusedError(Exception):
    """The broker does not let us in, or not subscribe; says why."""


class VersionError(Exception):
    """The broker does not speak this version of MQTT."""


class LinkLostError(Exception):
    """The connection ended."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is and how to sign in; what is secret is not shown."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    username: str | None
    password: str | None = field(repr=False)

    @classmethod
    def of(cls, settings: IngestSettings) -> Self:
        """Read the settings.

        Raises:
            ConfigurationError: The address or a file of the TLS options is wrong.
        """
        parts = urlsplit(settings.mqtt or "")
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ConfigurationError(
                "Name the broker as mqtt://host[:port] or mqtts://host[:port], by --mqtt or "
                "IOTLINKER_INGEST_MQTT."
            )
        if parts.username or parts.password:
            # An address ends up in process lists and logs.
            raise ConfigurationError(
                "Give user and password by IOTLINKER_INGEST_USERNAME and IOTLINKER_INGEST_PASSWORD,"
                " not in the address."
            )
        secret = settings.password
        return cls(
            parts.hostname,
            parts.port or (8883 if parts.scheme == "mqtts" else 1883),
            _tls(settings) if parts.scheme == "mqtts" else None,
            settings.username,
            None if secret is None else secret.get_secret_value(),
        )


def _tls(settings: IngestSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"The TLS files of ingest cannot be used: {error}") from error
    return context


class Link:
    """One connection, signed in; also what parts are acknowledged to (`AckTarget`)."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        largest: int,
        *,
        five: bool,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._packets = PacketReader(largest, five=five)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = 0
        self._acks: list[int] = []
        self._room = asyncio.Semaphore(1)
        self._sent = time.monotonic()
        self._asked: float | None = None
        self._busy = False
        self.five = five
        self.limits = Limits()

    @classmethod
    async def open(
        cls,
        address: Address,
        client_id: str,
        settings: IngestSettings,
        max_payload: int,
        *,
        five: bool,
        clean: bool = False,
    ) -> Self:
        """Connect and sign in.

        Raises:
            OSError, TimeoutError: The broker cannot be reached.
            VersionError: It does not speak this version.
            RefusedError: It does not let us in.
            ProtocolError, LinkLostError: It does not answer as it should.
        """
        largest = max_payload + _OVERHEAD
        async with asyncio.timeout(_ANSWER):
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=address.tls, limit=_CHUNK
            )
            link = cls(reader, writer, largest, five=five)
            try:
                await link._sign_in(address, client_id, settings, largest, clean=clean)
            except BaseException:
                link.abort()
                raise
        return link

    async def _sign_in(
        self,
        address: Address,
        client_id: str,
        settings: IngestSettings,
        largest: int,
        *,
        clean: bool,
    ) -> None:
        self._write(
            packets.connect(
                client_id,
                address.username,
                address.password,
                keep_alive=_KEEP_ALIVE,
                five=self.five,
                clean=clean,
                session_expiry=settings.session_expiry,
                receive_maximum=settings.receive_maximum,
                largest=largest,
            )
        )
        # Packet by packet: messages of a kept session may follow at once.
        head = await self._exactly(2)
        if head[0] != packets.CONNACK or head[1] & 0x80 or head[1] < 2:
            raise ProtocolError("the first answer is no CONNACK")
        body = await self._exactly(head[1])
        code = body[1]
        if code in _UNSUPPORTED and self.five:
            raise VersionError
        if code:
            raise RefusedError(f"CONNACK with reason {code:#x}")
        if self.five:
            self.limits = packets.read_limits(body)
        self._room = asyncio.Semaphore(min(self.limits.receive_maximum, 100))

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            # Some brokers close on a version they do not know instead of saying so.
            if self.five:
                raise VersionError from error
            raise LinkLostError("closed while signing in") from error

    async def serve(self, handler: Handler | None, filters: Sequence[str] = ()) -> None:
        """Subscribe, then take messages until the connection ends or this is cancelled.

        Raises:
            LinkLostError, ProtocolError, OSError: It ended.
            RefusedError: A subscription was refused.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(handler))
                group.create_task(self._ping())
                if filters:
                    await self._subscribe(filters)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self.abort()

    async def _subscribe(self, filters: Sequence[str]) -> None:
        number, answer = self._expect()
        self._write(packets.subscribe(number, filters, five=self.five))
        body = await self._answer(number, answer)
        codes = body[-len(filters) :]
        if refused := [f for f, code in zip(filters, codes, strict=False) if code >= 0x80]:
            raise RefusedError(f"the broker refuses the subscriptions {refused}")

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish at QoS 1; return the reason of the PUBACK, 0 in MQTT 3.1.1.

        Raises:
            LinkLostError, TimeoutError: It was not acknowledged.
        """
        async with self._room:
            number, answer = self._expect()
            self._write(packets.publish(topic, payload, number, retain=retain, five=self.five))
            return packets.reason(await self._answer(number, answer), 2)

    def _expect(self) -> tuple[int, "asyncio.Future[bytes]"]:
        self._next_id = self._next_id % 65_535 + 1
        answer = self._waiting[self._next_id] = asyncio.get_running_loop().create_future()
        return self._next_id, answer

    async def _answer(self, number: int, answer: "asyncio.Future[bytes]") -> bytes:
        try:
            async with asyncio.timeout(_ANSWER):
                return await answer
        finally:
            self._waiting.pop(number, None)

    async def _read(self, handler: Handler | None) -> None:
        while True:
            chunk = await self._reader.read(_CHUNK)
            if not chunk:
                raise LinkLostError("closed by the broker")
            self._asked = None  # whatever comes shows that it is alive
            messages: list[Publish] = []
            for packet in self._packets.feed(chunk):
                if isinstance(packet, Publish):
                    messages.append(packet)
                else:
                    self._replied(packet)
            if messages and handler is not None:
                self._busy = True
                await handler(self, messages)
                self._busy, self._asked = False, None

    def _replied(self, reply: Reply) -> None:
        match reply.kind:
            case packets.PUBACK | packets.SUBACK:
                answer = self._waiting.get(int.from_bytes(reply.body[:2]))
                if answer is not None and not answer.done():
                    answer.set_result(reply.body)
            case packets.DISCONNECT:
                raise LinkLostError(f"DISCONNECT with reason {packets.reason(reply.body, 0):#x}")
            case packets.PINGRESP:
                pass
            case other:
                raise ProtocolError(f"an unexpected packet of type {other >> 4}")

    async def _ping(self) -> None:
        keep_alive = self.limits.keep_alive or _KEEP_ALIVE
        while True:
            await asyncio.sleep(min(keep_alive / 4, 5))
            now = time.monotonic()
            # Nothing is read while the handler waits for the database: that silence is ours.
            silent = self._asked is not None and not self._busy
            if silent and now - (self._asked or now) > keep_alive:
                raise LinkLostError("the broker is silent")
            if now - self._sent > keep_alive / 2:
                self._write(packets.PINGREQ)
                self._asked = self._asked or now

    def _write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._sent = time.monotonic()
            self._writer.write(data)

    def abort(self) -> None:
        """End the connection at once; who waits for an answer is told."""
        self._writer.transport.abort()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkLostError("the connection ended"))
                answer.exception()  # seen: nobody may be waiting any more

    async def close(self) -> None:
        """Say goodbye; the session stays where it was meant to."""
        self._write(packets.GOODBYE)
        try:
            async with asyncio.timeout(1):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            _log.debug("no goodbye", reason=repr(error))
        self._writer.transport.abort()

    # --- what parts are acknowledged to ------------------------------------------------------

    def acknowledge(self, packets: bytes, count: int) -> None:
        """Parts of this have ids, not packets."""

    def released(self, packet_ids: list[int]) -> None:
        """Acknowledge what is committed, unless the connection is gone."""
        if not self._acks:  # all of a batch in one write
            asyncio.get_running_loop().call_soon(self._acknowledge)
        self._acks.extend(packet_ids)

    def _acknowledge(self) -> None:
        self._write(packets.pubacks(self._acks))
        self._acks.clear()

    def report_fault(self, fault: bytes) -> None:
        """Dead letters are in the database; nothing is told through another's broker."""
