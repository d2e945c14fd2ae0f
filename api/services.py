"""What one API process works with; opened once, by the application's lifespan."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from api.live.hub import Hub
from api.metrics import Metrics
from api.mqtt_auth.service import Gate
from api.security.caller import Caller
from api.security.passwords import Passwords
from api.security.sessions import Sessions
from api.security.throttle import LoginThrottle
from api.security.tokens import Tokens
from core import bus
from core.crypto import Vault
from core.db.session import Database
from core.errors import NotAuthenticatedError
from core.intake import IntakeClient
from core.outbound import OutboundGuard
from core.settings import Settings
from core.temporal.starts import Temporal

if TYPE_CHECKING:
    from mlops.inference import Predictor

_AUTHORIZATION_SCHEME = "bearer"


@dataclass(slots=True)
class Services:
    """Connections, keys and helpers shared by all requests."""

    settings: Settings
    database: Database
    bus: Redis
    temporal: Temporal
    http: httpx.AsyncClient
    vault: Vault
    outbound: OutboundGuard
    tokens: Tokens
    sessions: Sessions
    passwords: Passwords
    throttle: LoginThrottle
    gate: Gate
    hub: Hub
    metrics: Metrics
    intake: IntakeClient
    _predictor: "Predictor | None" = None

    @property
    def predictor(self) -> "Predictor":
        """The models. Made at the first use: importing them costs seconds and 200 MB."""
        if self._predictor is None:
            from mlops.inference import Predictor

            self._predictor = Predictor(self.settings, self.database)
        return self._predictor

    async def close(self) -> None:
        """End what the services do in the background."""
        if self._predictor is not None:
            await self._predictor.close()

    async def authenticate(self, connection: HTTPConnection) -> Caller:
        """Return who makes a request, by its `Authorization` header; checked once a request.

        Raises:
            NotAuthenticatedError: There is no valid token, or its session has ended.
        """
        known: Caller | None = getattr(connection.state, "caller", None)
        if known is not None:
            return known
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != _AUTHORIZATION_SCHEME or not token:
            raise NotAuthenticatedError("Send an access token: Authorization: Bearer …")
        caller = await self.admit(token.strip())
        connection.state.caller = caller
        return caller

    async def admit(self, token: str) -> Caller:
        """Return who an access token speaks for, if their session is live.

        Raises:
            NotAuthenticatedError: The token is not valid, or its session has ended.
        """
        caller = self.tokens.read_access(token)
        await self.sessions.check(caller)
        return caller


@asynccontextmanager
async def open_services(settings: Settings, metrics: Metrics) -> AsyncGenerator[Services]:
    """Open everything and close it at the end. Nothing needs to be up for this."""
    database = Database.connect(settings, "api")
    valkey = bus.connect(settings)
    tokens = Tokens(settings)
    hub = Hub(valkey)
    try:
        async with (
            httpx.AsyncClient(timeout=5, trust_env=False) as http,
            asyncio.TaskGroup() as tasks,
        ):
            services = Services(
                settings=settings,
                database=database,
                bus=valkey,
                temporal=await Temporal.open(settings),
                http=http,
                vault=Vault(settings.secrets.vault_key),
                outbound=OutboundGuard(settings.outbound.allow_networks),
                tokens=tokens,
                sessions=Sessions(database, valkey, access_seconds=tokens.access_seconds),
                passwords=Passwords(),
                throttle=LoginThrottle(valkey),
                gate=Gate(database, settings.ingest),
                hub=hub,
                metrics=metrics,
                intake=IntakeClient(settings, http),
            )
            reader = tasks.create_task(hub.run())
            try:
                yield services
            finally:
                hub.close()
                reader.cancel()
                await services.close()
    finally:
        await valkey.aclose()
        await database.close()
