"""An application on real servers, and people who may use it."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from api.app import create_app
from core.db.repositories import identity
from core.db.session import Database
from core.db.tables import User
from core.settings import Settings

PASSWORD = "correct horse battery staple"
# Weak on purpose: these hashes guard nothing, and the real ones take 50 ms each.
_ENCODED = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),)).hash(PASSWORD)


@dataclass(frozen=True, slots=True)
class Person:
    """A user who is signed in."""

    tenant_id: UUID
    user_id: UUID
    email: str
    access_token: str
    refresh_token: str
    session_id: UUID
    client: httpx.AsyncClient


Enter = Callable[..., Awaitable[Person]]


@pytest.fixture(scope="session")
def application(settings: Settings) -> FastAPI:
    """The application, made once; its connections open with its lifespan."""
    return create_app(settings)


@pytest.fixture
async def app(
    application: FastAPI, postgres_server: Settings, valkey_server: Settings
) -> AsyncIterator[FastAPI]:
    """The application, its connections open."""
    async with application.router.lifespan_context(application):
        yield application


def client_for(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    """Return a client of an application in this process; each has an address of its own."""
    address = f"192.0.2.{secrets.randbelow(250) + 1}"
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=(address, 50000)),
        base_url="http://api.test",
        headers=headers,
    )


@pytest.fixture
async def anonymous(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client that is not signed in."""
    async with client_for(app) as client:
        yield client


async def make_user(owner: Database, tenant_id: UUID, role: str | None) -> tuple[UUID, str]:
    """Return id and e-mail address of a new user with the password `PASSWORD`."""
    email = f"u-{secrets.token_hex(8)}@example.org"
    async with owner.transaction(tenant_id) as session:
        user = User(tenant_id=tenant_id, email=email, encrypted_password=_ENCODED)
        session.add(user)
        await session.flush()
        if role is not None:
            await identity.grant_platform_role(
                session, tenant_id=tenant_id, user_id=user.id, role=role
            )
        return user.id, email


@pytest.fixture
async def enter(app: FastAPI, owner: Database) -> AsyncIterator[Enter]:
    """Signs a new user of a tenant in, with one of the platform's roles."""
    clients: list[httpx.AsyncClient] = []

    async def sign_in(tenant_id: UUID, role: str | None = "tenant_admin") -> Person:
        user_id, email = await make_user(owner, tenant_id, role)
        client = client_for(app)
        clients.append(client)
        answer = await client.post(
            "/api/v1/auth/login", json={"email": email, "password": PASSWORD}
        )
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        client.headers["authorization"] = f"Bearer {tokens['access_token']}"
        return Person(
            tenant_id,
            user_id,
            email,
            tokens["access_token"],
            tokens["refresh_token"],
            UUID(tokens["session_id"]),
            client,
        )

    yield sign_in
    for client in clients:
        await client.aclose()


@pytest.fixture
async def admin(enter: Enter, tenant_id: UUID) -> Person:
    """A signed-in administrator of the test's tenant."""
    return await enter(tenant_id)


@pytest.fixture
async def client(admin: Person) -> httpx.AsyncClient:
    """The administrator's client."""
    return admin.client
