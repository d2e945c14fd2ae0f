"""WebSocket clients of the real API, subscribed to devices."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect

from api.auth.bootstrap import create_administrator
from core.settings import Settings

EMAIL, PASSWORD = "bench@example.com", "correct horse battery staple"


class _Typed(msgspec.Struct):
    type: str


async def make_account(settings: Settings) -> UUID:
    """Make a tenant whose administrator the clients sign in as; return the tenant."""
    tenant_id, _ = await create_administrator(
        settings,
        organization="Benchmark",
        tenant="Benchmark",
        subdomain="benchmark",
        email=EMAIL,
        password=PASSWORD,
    )
    return tenant_id


async def access_token(settings: Settings) -> str:
    """Sign in."""
    async with httpx.AsyncClient(base_url=settings.api_url, trust_env=False, timeout=30) as client:
        login = {"email": EMAIL, "password": PASSWORD}
        answer = (await client.post("/api/v1/auth/login", json=login)).raise_for_status()
    return str(answer.json()["access_token"])


@asynccontextmanager
async def subscribed(
    settings: Settings, token: str, devices: Sequence[UUID]
) -> AsyncGenerator[ClientConnection]:
    """Connect a client that gets everything of these devices."""
    address = settings.api_url.replace("http", "ws", 1) + "/ws/device-data"
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(address, additional_headers=headers, proxy=None, compression=None) as live:
        payload = {"device_ids": [str(device_id) for device_id in devices]}
        request = {"type": "subscribe", "channel": "device-data", "payload": payload}
        await live.send(msgspec.json.encode(request).decode())
        reply = await asyncio.wait_for(live.recv(), 30)
        if msgspec.json.decode(reply, type=_Typed).type != "subscribe":
            raise RuntimeError(f"not subscribed: {reply!r}")
        yield live
