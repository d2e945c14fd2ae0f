"""One transaction a request: committed before the answer leaves, or not at all."""

from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlmodel import col, select
from starlette.types import Message, Receive, Scope, Send

from api.app import create_app
from api.deps import WorkDep
from api.security.caller import Caller
from api.security.permissions import requires
from api.work import unit_of_work
from core.db.session import Database
from core.db.tables import DeviceProfile
from core.settings import Settings
from tests.api.conftest import Person


async def _exists(owner: Database, tenant_id: UUID, name: str) -> bool:
    async with owner.transaction(tenant_id) as session:
        found = await session.scalar(
            select(DeviceProfile.id).where(
                col(DeviceProfile.tenant_id) == tenant_id, col(DeviceProfile.name) == name
            )
        )
        return found is not None


async def test_the_commit_is_done_before_the_answer_leaves(
    app: FastAPI, admin: Person, owner: Database
) -> None:
    seen: list[bool] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def watching(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.append(await _exists(owner, admin.tenant_id, "pump"))
            await send(message)

        await app(scope, receive, watching)

    bearer = {"authorization": f"Bearer {admin.access_token}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(watched), base_url="http://x", headers=bearer
    ) as client:
        answer = await client.post("/api/v1/device-profiles", json={"name": "pump"})
    assert answer.status_code == 201
    assert seen == [True]


async def test_an_error_after_a_change_undoes_the_change(
    settings: Settings, postgres_server: Settings, admin: Person, owner: Database
) -> None:
    app = create_app(settings)

    @app.post("/half-way", dependencies=[requires("profiles:manage")])
    async def half_way(work: WorkDep) -> None:
        work.session.add(DeviceProfile(tenant_id=work.tenant_id, name="half"))
        await work.session.flush()
        raise RuntimeError("stop")

    async with app.router.lifespan_context(app):
        bearer = {"authorization": f"Bearer {admin.access_token}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://x", headers=bearer
        ) as client:
            assert (await client.post("/half-way")).status_code == 500
    assert not await _exists(owner, admin.tenant_id, "half")


async def _fail(app: FastAPI, caller: Caller) -> None:
    services = app.state.services
    async with unit_of_work(services.database, services.bus, caller, "") as work:
        work.notify("test:notices", "lost")
        raise ZeroDivisionError


async def test_notices_are_sent_after_the_commit_and_never_without_it(
    app: FastAPI, admin: Person, bus: Redis
) -> None:
    services = app.state.services
    caller = services.tokens.read_access(admin.access_token)
    async with bus.pubsub(ignore_subscribe_messages=True) as notices:
        await notices.subscribe("test:notices")
        await notices.get_message(timeout=5)
        with pytest.raises(ZeroDivisionError):
            await _fail(app, caller)
        async with unit_of_work(services.database, services.bus, caller, "") as work:
            work.notify("test:notices", "sent")
            work.notify("test:notices", "sent")
            await work.session.execute(sa.text("SELECT 1"))
        await bus.publish("test:notices", "end")
        heard = [await notices.get_message(timeout=5) for _ in range(2)]
    assert [message and message["data"] for message in heard] == [b"sent", b"end"]
