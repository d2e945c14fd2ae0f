"""WebSocket clients of the real API, subscribed to devices."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from uuid import UUID

import httpx
import msgspec
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from api.auth.bootstrap import create_administrator
from core.settings import Settings, load_settings

EMAIL, PASSWORD = "bench@example.com", "correct horse battery staple"


class _Typed(msgspec.Struct):
    type: str


async def make_account(settings: Settings) -> UUID:
    """Make a tenant whose administrator the clients sign in as; return the tenant."""
    tenant_id, _ = await create_administrator(
        settings,
        organization="Watched",
        tenant="Watched",
        subdomain="watched",
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
    settings: Settings, token: str, devices: Sequence[UUID], *, batch: bool = False
) -> AsyncGenerator[ClientConnection]:
    """Connect a client that gets everything of these devices, in batches if it likes."""
    address = settings.api_url.replace("http", "ws", 1) + "/ws/device-data"
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(address, additional_headers=headers, proxy=None, compression=None) as live:
        payload = {"device_ids": [str(device_id) for device_id in devices], "batch": batch}
        request = {"type": "subscribe", "channel": "device-data", "payload": payload}
        await live.send(msgspec.json.encode(request).decode())
        reply = await asyncio.wait_for(live.recv(), 30)
        if msgspec.json.decode(reply, type=_Typed).type != "subscribe":
            raise RuntimeError(f"not subscribed: {reply!r}")
        yield live


class Audience(msgspec.Struct):
    """WebSocket clients, each of one device; they read everything and look at nothing."""

    token: str
    devices: list[UUID]


@contextmanager
def audience(token: str, devices: list[UUID]) -> Generator[None]:
    """Keep clients connected until the end of the block, in a process of their own."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.support.live"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(Audience(token, devices)) + b"\n")
            process.stdin.flush()
            if process.stdout.readline() != b"subscribed\n":
                raise RuntimeError("the clients did not all get their subscription")
            yield
        finally:
            process.terminate()


async def _attend(settings: Settings, wanted: Audience) -> None:
    async def drain(live: ClientConnection) -> None:
        async for _ in live:
            pass

    async with AsyncExitStack() as clients, asyncio.TaskGroup() as tasks:
        for device in wanted.devices:
            live = await clients.enter_async_context(
                subscribed(settings, wanted.token, [device], batch=True)
            )
            tasks.create_task(drain(live))
        sys.stdout.buffer.write(b"subscribed\n")
        sys.stdout.flush()


if __name__ == "__main__":
    line = sys.stdin.buffer.readline()
    uvloop.run(_attend(load_settings(), msgspec.json.decode(line, type=Audience)))
