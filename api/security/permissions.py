"""Every route says who may use it; an application with a route that does not is not made."""

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import params
from fastapi.routing import iter_route_contexts
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute

from core.errors import ConfigurationError, NotAuthenticatedError


@dataclass(frozen=True)
class Public:
    """A declaration: anybody may use this route."""

    async def __call__(self) -> None:
        """Check nothing."""


@dataclass(frozen=True)
class SignedIn:
    """A declaration: any signed-in user may use this route, whatever their roles."""

    async def __call__(self, connection: HTTPConnection) -> None:
        """Check the caller's token and session.

        Raises:
            NotAuthenticatedError: There is no valid token, or its session has ended.
        """
        await connection.app.state.services.authenticate(connection)


@dataclass(frozen=True)
class Requires:
    """A declaration: the caller needs this permission."""

    permission: str

    async def __call__(self, connection: HTTPConnection) -> None:
        """Check the caller's token, session and permission.

        Raises:
            NotAuthenticatedError: There is no valid token, or its session has ended.
            PermissionDeniedError: The caller does not have the permission.
        """
        caller = await connection.app.state.services.authenticate(connection)
        caller.require(self.permission)


@dataclass(frozen=True)
class RequiresOrDevice(Requires):
    """A declaration: the caller needs this permission, or is a device with a key of its own.

    The broker checks a device's key, since it also takes what the device sends.
    """

    async def __call__(self, connection: HTTPConnection) -> None:
        """Check the caller unless they show a device's key.

        Raises:
            NotAuthenticatedError: There is no valid token, or its session has ended.
            PermissionDeniedError: The caller does not have the permission.
        """
        if device_key(connection) is None:
            await super().__call__(connection)


@dataclass(frozen=True)
class DeviceOnly:
    """A declaration: for devices, whose key is in the path; the broker checks it."""

    async def __call__(self) -> None:
        """Check nothing yet."""


@dataclass(frozen=True)
class BrokerOnly:
    """A declaration: for another MQTT broker, which shares a secret with the platform."""

    async def __call__(self, connection: HTTPConnection) -> None:
        """Check the secret. mosquitto-go-auth can set one header only, and that is the user agent.

        Raises:
            NotAuthenticatedError: It is not there.
        """
        secret: str = connection.app.state.services.settings.secrets.mqtt_auth
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        agent = connection.headers.get("user-agent", "")
        given = token if scheme.lower() == "bearer" else agent
        if not hmac.compare_digest(given.strip().encode(), secret.encode()):
            raise NotAuthenticatedError(
                "Send `mqtt_auth` of secrets.json: Authorization: Bearer …, or as the User-Agent."
            )


@dataclass(frozen=True)
class RequiresToSubscribe:
    """A declaration on a WebSocket: checked for every subscription, after the first message."""

    permission: str

    async def __call__(self) -> None:
        """Check nothing yet: a browser can only send its token in a message."""


Declaration = Public | SignedIn | Requires | DeviceOnly | BrokerOnly | RequiresToSubscribe

DEVICE_KEY_HEADER = "x-device-key"


def device_key(connection: HTTPConnection) -> str | None:
    """Return the device's key that a request shows, if it does.

    In its own header, or as a bearer token: an access token of ours is a JWT, which has two dots;
    a device's key has none.
    """
    own = connection.headers.get(DEVICE_KEY_HEADER)
    if own is not None:
        return own
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token and "." not in token else None


def requires(permission: str) -> Any:
    """Declare the permission of a route: `dependencies=[requires("devices:read")]`."""
    return params.Depends(Requires(permission))


def requires_or_device(permission: str) -> Any:
    """Declare the permission of a route that devices use too, with their own keys."""
    return params.Depends(RequiresOrDevice(permission))


def requires_to_subscribe(permission: str) -> Any:
    """Declare the permission of a WebSocket's subscriptions."""
    return params.Depends(RequiresToSubscribe(permission))


public: Any = params.Depends(Public())
signed_in: Any = params.Depends(SignedIn())
device_only: Any = params.Depends(DeviceOnly())
broker_only: Any = params.Depends(BrokerOnly())


def declarations(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str, Declaration | None]]:
    """Yield methods, path and declaration of every route, WebSockets included."""
    for context in iter_route_contexts(routes):
        route = context.original_route
        dependencies = getattr(route, "dependencies", ())
        found = [
            dependency.dependency
            for dependency in dependencies
            if isinstance(dependency.dependency, Declaration)
        ]
        methods = ",".join(sorted(getattr(route, "methods", None) or ("WEBSOCKET",)))
        yield methods, context.path or repr(route), found[0] if len(found) == 1 else None


def refuse_undeclared(routes: Sequence[BaseRoute]) -> None:
    """Check that every route has exactly one declaration.

    Raises:
        ConfigurationError: One does not.
    """
    missing = [f"{methods} {path}" for methods, path, found in declarations(routes) if not found]
    if missing:
        raise ConfigurationError(f"Routes without exactly one permission: {'; '.join(missing)}")
