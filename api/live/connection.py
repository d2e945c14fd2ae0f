"""One WebSocket: who it is, what it asked for, until its token is over."""

import asyncio
import time
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.live import frames
from api.live.frames import Channel, Inbound
from api.live.outlet import Outlet
from api.security.caller import Caller
from api.services import Services
from core import bus
from core.db.repositories import devices
from core.errors import IoTLinkerError, NotAuthenticatedError

SUBPROTOCOL = "iotlinker.bearer"
"""Offered together with the token as a second one; the answer names this one only."""
MAX_SUBSCRIPTIONS = 1000
_FIRST_MESSAGE = 5.0  # seconds
_RECHECK = 15.0  # seconds between looks at the session
_UNAUTHENTICATED = 4401  # close code; 4000 to 4999 are the application's own (RFC 6455, 7.4.2)
_SEND = 30.0  # seconds for what was waiting to leave; a client that takes longer is gone

logger = structlog.get_logger(__name__)


class _OverError(Exception):
    """The connection is over, for this reason."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class LiveConnection:
    """Serves one client on one channel."""

    def __init__(
        self, websocket: WebSocket, services: Services, channel: Channel, permission: str
    ) -> None:
        self._websocket = websocket
        self._services = services
        self._channel = channel
        self._permission = permission
        self._outlet = Outlet(services.metrics)
        self._subscribed: set[str] = set()

    async def serve(self) -> None:
        """Serve until the client leaves or its session or token is over."""
        offered = self._websocket.scope.get("subprotocols", [])
        await self._websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        self._services.metrics.live_connections.inc()
        try:
            self._caller = await self._authenticate(offered)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._read())
                tasks.create_task(self._watch())
        except* WebSocketDisconnect:
            logger.debug("live.left")
        except* (_OverError, TimeoutError) as group:
            await self._refuse(group.exceptions[0])
        finally:
            self._services.metrics.live_connections.dec()
            for bus_channel in self._subscribed:
                await self._services.hub.unsubscribe(bus_channel, self._channel, self._outlet)

    async def _refuse(self, error: BaseException) -> None:
        code, detail = (
            (error.code, error.detail)
            if isinstance(error, _OverError)
            else ("timeout", "You did not read, or did not sign in, in time.")
        )
        try:
            async with asyncio.timeout(_FIRST_MESSAGE):
                await self._websocket.send_text(frames.failure(code, detail, self._channel))
                await self._websocket.close(_UNAUTHENTICATED, code)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            logger.debug("live.left")  # it went first

    async def _authenticate(self, offered: list[str]) -> Caller:
        try:
            if "authorization" in self._websocket.headers:
                return await self._services.authenticate(self._websocket)
            if SUBPROTOCOL in offered:
                token = next((part for part in offered if part != SUBPROTOCOL), "")
                return await self._services.admit(token)
            async with asyncio.timeout(_FIRST_MESSAGE):
                first = frames.parse(await self._websocket.receive_text())
            if first.type != "auth":
                raise NotAuthenticatedError('Send {"type": "auth", "payload": {"token": …}} first.')
            caller = await self._services.admit(str(first.payload.get("token", "")))
        except IoTLinkerError as error:
            raise _OverError(error.code, error.detail) from error
        except (ValueError, KeyError) as error:  # a binary message has no text
            raise _OverError("invalid_message", "The first message is not understood.") from error
        self._answer("auth", {"expires_at": caller.expires_at})
        return caller

    async def _write(self) -> None:
        while True:
            batch = await self._outlet.take()
            async with asyncio.timeout(_SEND):
                for frame in batch:
                    await self._websocket.send_text(frame)

    async def _watch(self) -> None:
        while True:
            left = self._caller.expires_at - time.time()
            if left <= 0:
                raise _OverError("token_expired", "The access token is over.")
            await asyncio.sleep(min(left, _RECHECK))
            try:
                await self._services.sessions.check(self._caller)
            except NotAuthenticatedError as error:
                raise _OverError(error.code, error.detail) from error
            except (OSError, TimeoutError, SQLAlchemyError) as error:
                # The token is still good; whether the session is, shows when the database is back.
                logger.warning("live.session_unchecked", error=str(error))

    async def _read(self) -> None:
        while True:
            received = await self._websocket.receive()
            if received["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(received.get("code", 1005))
            try:
                inbound = frames.parse(received.get("text") or received.get("bytes") or "")
                await self._obey(inbound)
            except IoTLinkerError as error:
                self._fail(error.code, error.detail)
            except ValueError as error:
                self._fail("invalid_message", str(error))
            except (OSError, TimeoutError, SQLAlchemyError) as error:
                logger.warning("live.request_failed", error=repr(error))
                self._fail("unavailable", "The database cannot be reached; try again.")

    async def _obey(self, inbound: Inbound) -> None:
        if inbound.type == "auth":
            await self._renew(str(inbound.payload.get("token", "")))
        elif inbound.type not in ("subscribe", "unsubscribe"):
            self._fail("invalid_message", "type is auth, subscribe or unsubscribe")
        elif inbound.channel != self._channel:
            self._fail("unknown_channel", f"This address has the channel {self._channel}.")
        elif inbound.type == "subscribe":
            await self._subscribe(inbound)
        else:
            await self._unsubscribe(inbound)

    async def _renew(self, token: str) -> None:
        caller = await self._services.admit(token)
        if (caller.user_id, caller.tenant_id) != (self._caller.user_id, self._caller.tenant_id):
            raise NotAuthenticatedError("The token is somebody else's.")
        self._caller = caller
        self._answer("auth", {"expires_at": caller.expires_at})

    async def _subscribe(self, inbound: Inbound) -> None:
        self._caller.require(self._permission)
        known: set[UUID] = set()
        if self._channel is Channel.DEVICE_DATA:
            wanted = _device_ids(inbound)
            async with self._services.database.transaction(self._caller.tenant_id) as session:
                known = await devices.existing(session, wanted)
            for missing in wanted - known:
                self._fail("not_found", "There is no such device.", device_id=str(missing))
            channels = {bus.telemetry(device_id) for device_id in known}
        else:
            channels = {bus.dashboard(self._caller.tenant_id)}
        if len(self._subscribed | channels) > MAX_SUBSCRIPTIONS:
            self._fail("too_many", f"At most {MAX_SUBSCRIPTIONS} subscriptions a connection.")
            return
        if channels:
            self._subscribed |= channels
            self._outlet.batches = self._outlet.batches or inbound.payload.get("batch") is True
            async with asyncio.TaskGroup() as tasks:
                for name in channels:
                    tasks.create_task(
                        self._services.hub.subscribe(name, self._channel, self._outlet)
                    )
            if known:
                await self._services.hub.announce(known)
            self._answer("subscribe", inbound.payload)

    async def _unsubscribe(self, inbound: Inbound) -> None:
        if self._channel is Channel.DEVICE_DATA:
            channels = {bus.telemetry(device_id) for device_id in _device_ids(inbound)}
        else:
            channels = {bus.dashboard(self._caller.tenant_id)}
        for name in channels & self._subscribed:
            await self._services.hub.unsubscribe(name, self._channel, self._outlet)
        self._subscribed -= channels
        self._answer("unsubscribe", inbound.payload)

    def _answer(self, kind: str, payload: dict[str, object]) -> None:
        self._outlet.offer(frames.message(kind, self._channel, payload))

    def _fail(self, code: str, detail: str, **more: object) -> None:
        self._outlet.offer(frames.failure(code, detail, self._channel, **more))


def _device_ids(inbound: Inbound) -> set[UUID]:
    """Read `device_id` or `device_ids`.

    Raises:
        ValueError: There is neither, or one is no id.
    """
    given = inbound.payload.get("device_ids", inbound.payload.get("device_id"))
    texts = given if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("payload needs device_id, or device_ids as a list")
    if len(texts) > MAX_SUBSCRIPTIONS:
        raise ValueError(f"at most {MAX_SUBSCRIPTIONS} devices at once")
    return {UUID(text) for text in texts}
