"""The platform's HTTP API as the demo uses it: signed in, patient with a part that restarts."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx

from core.errors import IoTLinkerError, UnavailableError

_PATIENCE = 60.0
"""Seconds for which a request is tried again while the API is away."""
_AWAY = {502, 503, 504}


class DemoError(IoTLinkerError):
    """The platform did not do what the demo asked for."""

    code, status, title = "demo_failed", 500, "The demo failed"


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncGenerator[None]:
    """Bound the block.

    Raises:
        DemoError: It took longer; the message says what was waited for.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DemoError(f"{what}: not within {seconds:.0f} s") from None


class ApiClient:
    """A signed-in client.

    Only requests that may be repeated are tried again; a `post` is when the caller says so.
    """

    def __init__(self, base_url: str, email: str, password: str) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False)
        self._credentials = {"email": email, "password": password}
        self._token = ""
        self._renew_at = 0.0
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.token()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def token(self) -> str:
        """Return an access token with some life left."""
        async with self._lock:
            if time.monotonic() >= self._renew_at:
                answer = await self._patiently(
                    self._http.build_request("POST", "/api/v1/auth/login", json=self._credentials)
                )
                self._token = answer["access_token"]
                self._renew_at = time.monotonic() + answer["expires_in"] / 2
            return self._token

    async def get(self, path: str, **parameters: Any) -> Any:
        """Read."""
        return await self._send("GET", path, params=parameters)

    async def put(self, path: str, body: Any) -> Any:
        """Replace."""
        return await self._send("PUT", path, json=body)

    async def patch(self, path: str, body: Any) -> Any:
        """Change; the demo's changes may be repeated."""
        return await self._send("PATCH", path, json=body)

    async def post(self, path: str, body: Any = None, *, repeat: bool = False) -> Any:
        """Create or do something; `repeat` when doing it twice does no harm."""
        return await self._send("POST", path, json=body, repeat=repeat)

    async def _send(self, method: str, path: str, *, repeat: bool = True, **more: Any) -> Any:
        request = self._http.build_request(
            method,
            f"/api/v1{path}",
            headers={"Authorization": f"Bearer {await self.token()}"},
            **more,
        )
        if repeat:
            return await self._patiently(request)
        return _content(await self._http.send(request))

    async def _patiently(self, request: httpx.Request) -> Any:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                response = await self._http.send(request)
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"{request.url}: {error}") from error
            else:
                if response.status_code not in _AWAY or time.monotonic() > deadline:
                    return _content(response)
            await asyncio.sleep(0.5)


def _content(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json() if response.content else None
    where = f"{response.request.method} {response.request.url.path}"
    raise DemoError(f"{where} was answered {response.status_code}: {response.text[:1000]}")
