"""Messages of ThingsBoard's device and gateway API, beside telemetry and attributes of a device.

What concerns other devices is handed to the queue before the gateway's own part, which carries the
acknowledgement; since parts are committed and acknowledged in their order, the PUBACK of a
gateway's message means that all of it is committed, whatever devices it speaks of.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.dialects.children import Child, Family, Nursery
from broker.dialects.rights import DialectTopics
from broker.dialects.thingsboard import payloads, topics
from broker.dialects.thingsboard.topics import Said
from broker.dialects.thingsboard.voices import GatewayVoice
from broker.ingest.batching import Part
from broker.ingest.intake import Ingest
from broker.ingest.payloads import PayloadError
from broker.mqtt.connection import Connection
from core.crypto import device_key_digest
from core.db.repositories.ingest import EventRow, ResponseRow, instant
from core.db.repositories.ingest_gateways import ClaimRow, twin
from core.topics_acl import Route

if TYPE_CHECKING:
    from uuid import UUID

    from broker.devices import Device
    from broker.mqtt.downlink import Downlink
    from broker.mqtt.server import MqttServer

_log = structlog.get_logger(__name__)

MAX_ASKING: Final = 500
"""Requests for attributes under way; more are left unanswered, as a lost message would be."""

_ME_TELEMETRY: Final = topics.ATTRIBUTES.encode().replace(b"attributes", b"telemetry")
_ME_ATTRIBUTES: Final = topics.ATTRIBUTES.encode()
_VOICES: Final = (GatewayVoice(),)
_NO_LIMITS: Final = {"messages": "", "telemetryMessages": "", "telemetryDataPoints": ""}
_IN_FLIGHT: Final = 100

Work = Coroutine[Any, Any, None]


class ThingsBoard:
    """Handles the messages of all connections."""

    def __init__(
        self,
        server: MqttServer,
        database: IngestDatabase,
        ingest: Ingest,
        nursery: Nursery,
        max_payload: int,
    ) -> None:
        self._server = server
        self._database = database
        self._ingest = ingest
        self._nursery = nursery
        self._max_payload = max_payload
        self._asking = 0

    def handle(
        self, part: Part, device: Device, route: Route, topic: bytes, payload: bytes, now: int
    ) -> Work | None:
        """See `Handler`."""
        connection = part.target
        assert isinstance(connection, Connection)
        assert isinstance(connection.rights, DialectTopics)
        rule = connection.rights.gateway
        address = topics.parse(topic, gateway=rule is not None)
        assert address is not None  # or else it had another route
        try:
            match address.said:
                case Said.ASK_ATTRIBUTES:
                    asked = payloads.attribute_request(payload)
                    answer_to = topics.ATTRIBUTES_RESPONSE + address.request
                    self._ask(part, connection, device.id, asked, answer_to)
                case Said.CALL:
                    self._called(part, connection, address.request, payloads.call(payload), now)
                case Said.REPLY:
                    number = int(address.request) if address.request.isdigit() else -1
                    _answered(part, device, connection.downlink, number, payloads.reply(payload))
                case Said.CLAIM:
                    _claimable(part, device, payloads.claim(payload))
                case Said.FIRMWARE:
                    refusal = b'{"error": "there is no firmware here"}'
                    part.then(partial(connection.tell, topics.FIRMWARE_ERROR, refusal))
                case _:
                    assert rule is not None
                    return self._of_gateway(part, connection, address.said, topic, payload, now)
        except PayloadError as error:
            self._ingest.bury(part, device, topic, payload, now, error)
        return None

    # --- a gateway -------------------------------------------------------------------------

    def _family(self, connection: Connection) -> Family:
        if connection.family is None:
            assert isinstance(connection.rights, DialectTopics)
            rule = connection.rights.gateway
            limit = 0 if rule is None else rule.max_children
            connection.family = Family(connection, limit, _VOICES, self._nursery)
        return connection.family

    def _of_gateway(
        self,
        part: Part,
        connection: Connection,
        said: Said,
        topic: bytes,
        payload: bytes,
        now: int,
    ) -> Work | None:
        family = self._family(connection)
        profile: str | None = None
        parts: dict[str, bytes] = {}
        match said:
            case Said.CHILD_DISCONNECT:
                family.leave(payloads.arrival(payload).device)
                return None
            case Said.CHILD_CONNECT:
                arrived = payloads.arrival(payload)
                profile, parts = arrived.profile, {arrived.device: b""}
            case Said.ASK_CHILD_ATTRIBUTES:
                parts = {payloads.gateway_attribute_request(payload).device: payload}
            case Said.CHILD_REPLY:
                parts = {payloads.gateway_reply(payload).device: payload}
            case _:
                parts = payloads.per_device(payload)
        missing = family.missing(parts)
        if missing:
            return self._later(part, family, said, topic, parts, missing, profile, now)
        self._spoken(part, family, said, topic, parts, {}, now)
        return None

    async def _later(
        self,
        part: Part,
        family: Family,
        said: Said,
        topic: bytes,
        parts: dict[str, bytes],
        missing: list[str],
        profile: str | None,
        now: int,
    ) -> None:
        """Bring the children that are not here, and take the message then."""
        rights = family.connection.rights
        assert isinstance(rights, DialectTopics)
        stated = None if rights.gateway is None else rights.gateway.profile
        profiles = [name for name in (profile, stated) if name is not None]
        refused = await family.fetch({name: name for name in missing}, profiles)
        self._spoken(part, family, said, topic, parts, refused, now)

    def _spoken(
        self,
        part: Part,
        family: Family,
        said: Said,
        topic: bytes,
        parts: dict[str, bytes],
        refused: dict[str, PayloadError],
        now: int,
    ) -> None:
        gateway = family.connection.device
        for name, raw in parts.items():
            child, reason = family.get(name), refused.get(name)
            if child is None and reason is None:
                return  # the gateway is gone, and gets no acknowledgement
            if child is not None:
                try:
                    self._of_child(part, child, said, raw, now)
                except PayloadError as error:
                    reason = error
            if reason is not None:
                reason.pointer = payloads.pointer_to(name) + reason.pointer
                whole = payloads.encode({name: msgspec.Raw(raw or b"null")})
                self._ingest.bury(part, gateway, topic, whole, now, reason)

    def _of_child(self, part: Part, child: Child, said: Said, raw: bytes, now: int) -> None:
        device, connection = child.device, child.family.connection
        match said:
            case Said.CHILDREN_TELEMETRY | Said.CHILDREN_ATTRIBUTES:
                telemetry = said is Said.CHILDREN_TELEMETRY
                own = Part(device, None)
                own.bytes = len(raw)
                route = Route.TELEMETRY if telemetry else Route.ATTRIBUTES
                topic = _ME_TELEMETRY if telemetry else _ME_ATTRIBUTES
                self._ingest.message(own, device, route, topic, raw, now)
                self._ingest.submit(own)
            case Said.ASK_CHILD_ATTRIBUTES:
                asked = payloads.gateway_attribute_request(raw)
                self._ask(part, connection, device.id, asked, topics.GATEWAY_ATTRIBUTES_RESPONSE)
            case Said.CHILD_REPLY:
                reply = payloads.gateway_reply(raw)
                _answered(part, device, child.downlink, reply.number, reply.response)
            case Said.CHILDREN_CLAIM:
                _claimable(part, device, payloads.claim(raw))
            case _:
                pass  # it came, and is here

    # --- answers ---------------------------------------------------------------------------

    def _ask(
        self,
        part: Part,
        connection: Connection,
        device_id: UUID,
        asked: payloads.AttributeRequest,
        topic: str,
    ) -> None:
        """Answer once this part is committed, so that a client finds what it has just said."""

        def begin() -> None:
            if self._asking < MAX_ASKING and connection.alive:
                self._asking += 1
                self._server.spawn(self._answer(connection, device_id, asked, topic))

        part.then(begin)

    async def _answer(
        self,
        connection: Connection,
        device_id: UUID,
        asked: payloads.AttributeRequest,
        topic: str,
    ) -> None:
        try:
            async with self._database.connection() as database:
                found = await twin(database, device_id)
        except OUTAGE as error:
            _log.warning("attributes cannot be looked up", reason=repr(error))
            return
        finally:
            self._asking -= 1
        sides = msgspec.json.decode(found.reported), msgspec.json.decode(found.desired)
        answer = asked.gateway_answer(*sides) if asked.device else asked.answer(*sides)
        connection.tell(topic, payloads.encode(answer))

    def _called(
        self, part: Part, connection: Connection, request: str, call: payloads.Call, now: int
    ) -> None:
        """Answer a call of a device; what is not known here is an event of the device."""
        topic = topics.RPC_RESPONSE + request
        match call.method:
            case "getCurrentTime":
                answer: object = int(time.time() * 1000)
            case "getSessionLimits":
                answer = {
                    "maxPayloadSize": self._max_payload,
                    "maxInflightMessages": _IN_FLIGHT,
                    "rateLimits": _NO_LIMITS,
                    "gatewayRateLimits": _NO_LIMITS,
                }
            case method:
                device = connection.device
                part.effect().events.append(
                    EventRow(
                        device.tenant_id,
                        device.id,
                        instant(self._ingest.receipt(device, now)),
                        method,
                        payloads.encode({"params": call.params}).decode(),
                    )
                )
                answer = {"error": f"the platform answers no {method!r}; it is kept as an event"}
        part.then(partial(connection.tell, topic, payloads.encode(answer)))


def _answered(
    part: Part, device: Device, link: Downlink | None, number: int, response: dict[str, Any]
) -> None:
    """Take the answer to a command."""
    sent = () if link is None else reversed(link.sent)
    command_id = next((c for c in sent if payloads.number_of(c) == number), None)
    if command_id is None:
        raise PayloadError("unknown_command", "", "no command of this id was sent")
    part.effect().responses.append(
        ResponseRow(command_id, device.id, payloads.encode(response).decode())
    )


def _claimable(part: Part, device: Device, claim: payloads.Claim) -> None:
    part.effect().claims[device.id] = ClaimRow(
        device.id,
        device.tenant_id,
        device_key_digest(claim.secret),
        datetime.now(UTC) + timedelta(milliseconds=claim.duration),
    )
