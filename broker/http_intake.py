"""Messages that came over HTTP, taken as if they had been published.

A device enters as for a connection, its messages go the way of all messages, and the answer is
given when all of them are committed. Invariants beside those of `broker.ingest.flusher`:

1. Nothing is taken while the broker starts or stops, while the database fails, or above the
   queue's high-water mark: the caller is told to come back.
2. What is under way is bounded in requests and in bytes, before a body is read.
3. A request that is not answered in time may still be committed. Sent again it is stored once,
   by the key of its rows, if its measurements have times.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from amqtt.mqtt.connack import SERVER_UNAVAILABLE

from broker.database import OUTAGE, IngestDatabase
from broker.devices import Device
from broker.entrance import Entrance
from broker.ingest.batching import Part
from broker.ingest.intake import Ingest
from broker.mqtt.auth import Authenticator, RefusedError
from broker.presence import Presence
from core.db.repositories.ingest_arrivals import devices_of_tenant
from core.db.repositories.ingest_devices import DeviceRow
from core.intake import (
    ANSWER,
    OUT_OF_SERVICE,
    UNKNOWN_DEVICE,
    UNKNOWN_TOPIC,
    Delivery,
    Message,
    Outcome,
    OwnMessage,
    decode_handover,
    encode_outcomes,
)
from core.topics import PREFIX
from core.topics_acl import Route, Topics

MAX_REQUESTS: Final = 64
"""Requests under way."""
MAX_WAITING: Final = 64 * 1024 * 1024
"""Bytes of their bodies."""

_SLICE: Final = 128 * 1024
"""Bytes of payload that are parsed before others have their turn in this process."""

_UNKNOWN: Final = Outcome(UNKNOWN_DEVICE, "", "there is no such device")
_OUT_OF_SERVICE: Final = Outcome(OUT_OF_SERVICE, "", "the device is out of service")
_NO_TOPIC: Final = Outcome(UNKNOWN_TOPIC, "", "the device cannot publish to this topic")


class BusyError(Exception):
    """The caller must come back later; says why."""


class ForbiddenError(Exception):
    """The device's key is not good."""


class _Receipt:
    """Counts the parts of one request until all are committed."""

    def __init__(self) -> None:
        self._open = 0
        self._committed = asyncio.Event()
        self._committed.set()

    def expect(self) -> None:
        """One more part is handed to the queue."""
        self._open += 1
        self._committed.clear()

    async def committed(self) -> None:
        """Wait for all of them."""
        await self._committed.wait()

    def acknowledge(self, packets: bytes, count: int) -> None:
        """A part of this has no packets."""

    def released(self, packet_ids: list[int]) -> None:
        """A part is committed."""
        self._open -= 1
        if not self._open:
            self._committed.set()

    def report_fault(self, fault: bytes) -> None:
        """The answer tells of it."""


class HttpIntake:
    """Takes handed over messages.

    Args:
        wrong: Returns None, or why nothing can be taken now.
    """

    def __init__(
        self,
        key: str,
        database: IngestDatabase,
        authenticator: Authenticator,
        entrance: Entrance,
        ingest: Ingest,
        presence: Presence,
        wrong: Callable[[], str | None],
    ) -> None:
        self._authorization = f"Bearer {key}".encode()
        self._database = database
        self._authenticator = authenticator
        self._entrance = entrance
        self._ingest = ingest
        self._presence = presence
        self._wrong = wrong
        self._requests = 0
        self._bytes = 0

    def authorized(self, authorization: bytes) -> bool:
        """Tell whether a caller knows the key; takes the same time for every wrong one."""
        return hmac.compare_digest(authorization, self._authorization)

    @contextmanager
    def admitted(self, size: int) -> Generator[None]:
        """Hold room for a request of so many bytes.

        Raises:
            BusyError: There is none, or nothing can be taken now.
        """
        if wrong := self._wrong():
            raise BusyError(f"the broker takes nothing now: {wrong}")
        full = self._requests >= MAX_REQUESTS or self._bytes + size > MAX_WAITING
        if full or not self._ingest.queue.admitting:
            raise BusyError("more comes than the database takes; slow down")
        self._requests += 1
        self._bytes += size
        try:
            yield
        finally:
            self._requests -= 1
            self._bytes -= size

    async def take(self, body: bytes) -> bytes:
        """Take what was handed over; return the encoded outcomes once all is committed.

        Raises:
            BusyError: It could not be committed in time, or the database is down.
            ForbiddenError: A device's key is unknown, void, or another's.
            msgspec.DecodeError: The body is not of `core.intake`.
        """
        handover = decode_handover(body)
        try:
            async with asyncio.timeout(ANSWER):
                return encode_outcomes(
                    await self._own(handover)
                    if isinstance(handover, OwnMessage)
                    else await self._delivery(handover)
                )
        except TimeoutError as error:
            raise BusyError(f"not committed within {ANSWER:.0f} s; send it again") from error
        except OUTAGE as error:
            raise BusyError(f"the database cannot be asked: {error!r}") from error

    async def _own(self, own: OwnMessage) -> list[Outcome]:
        username, password = own.key, None
        if own.device_id is not None:
            username, password = str(own.device_id), own.key
        try:
            row = await self._authenticator.sign_in(username, password)
        except RefusedError as error:
            if error.code == SERVER_UNAVAILABLE:
                raise BusyError(str(error)) from error
            raise ForbiddenError(str(error)) from error
        message = Message(row.device_id, f"{PREFIX}{row.device_id}/{own.kind}", own.payload)
        delivery = Delivery(row.tenant_id, [message])
        return await self._commit(delivery, {row.device_id: row}, visit=True)

    async def _delivery(self, delivery: Delivery) -> list[Outcome]:
        wanted = list({message.device_id for message in delivery.messages})
        async with self._database.connection() as connection:
            rows = await devices_of_tenant(connection, delivery.tenant_id, wanted)
        return await self._commit(delivery, rows)

    async def _commit(
        self, delivery: Delivery, rows: dict[UUID, DeviceRow], *, visit: bool = False
    ) -> list[Outcome]:
        entered = await self._entrance.enter([row for row in rows.values() if row.usable])
        try:
            devices = {device.id: device for device in entered}
            outcomes = [
                _UNKNOWN if message.device_id not in rows else _OUT_OF_SERVICE
                for message in delivery.messages
            ]
            positions: dict[UUID, deque[int]] = {}
            for position, message in enumerate(delivery.messages):
                if message.device_id in devices:
                    positions.setdefault(message.device_id, deque()).append(position)
            receipt = _Receipt()
            for device_id, of_device in positions.items():
                await self._device(delivery, devices[device_id], of_device, outcomes, receipt)
            await receipt.committed()
            if visit:
                for device in entered:
                    self._presence.visited(device)
            return outcomes
        finally:
            self._entrance.leave(entered)

    async def _device(
        self,
        delivery: Delivery,
        device: Device,
        positions: deque[int],
        outcomes: list[Outcome],
        receipt: _Receipt,
    ) -> None:
        """Hand one device's messages to the queue in their order, a slice at a time."""
        topics = Topics(device.id)
        while positions:
            await self._ingest.queue.admitted()
            part = Part(device, receipt)
            # Nothing waits from here to the end of the slice: another's message could come between
            # the triggers being set aside and their return.
            bindings = device.bindings
            if not delivery.fire_triggers:
                device.bindings = ()
            try:
                while positions and part.bytes < _SLICE:
                    position = positions.popleft()
                    message = delivery.messages[position]
                    outcomes[position] = self._message(part, device, topics, message, delivery.bury)
                    part.messages += 1
                    part.bytes += len(message.payload)
                part.released.append(part.messages)
                receipt.expect()
                self._ingest.submit(part)
            finally:
                device.bindings = bindings
            await asyncio.sleep(0)

    def _message(
        self, part: Part, device: Device, topics: Topics, message: Message, bury: bool
    ) -> Outcome:
        topic = message.topic.encode()
        route = topics.route(topic)
        if route is None or route is Route.TOPIC:
            return _NO_TOPIC
        letters = 0 if part.effects is None else len(part.effects.dead_letters)
        if message.received_at is None:
            now = time.time_ns() // 1000
            self._ingest.message(part, device, route, topic, message.payload, now)
        else:
            newest, device.last_time = device.last_time, 0
            self._ingest.message(part, device, route, topic, message.payload, message.received_at)
            device.last_time = max(newest, device.last_time)
        if part.effects is None or len(part.effects.dead_letters) == letters:
            return Outcome()
        letter = part.effects.dead_letters[-1]
        if not bury:
            part.effects.dead_letters.pop()
        return Outcome(letter.code, letter.pointer, letter.message)
