"""Signing in, rotating tokens, signing out."""

import base64
import json
import time
from collections.abc import Callable
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlmodel import col, select

from api.auth.bootstrap import create_administrator
from api.security.tokens import Tokens
from core.db.repositories.identity import Grants
from core.db.session import Database
from core.db.tables import AuditEntry, User, UserSession
from core.settings import Settings
from tests.api.conftest import PASSWORD, Enter, Person, client_for, make_user


def _part(token: str, number: int) -> dict[str, object]:
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


async def test_an_access_token_carries_the_documented_claims(admin: Person) -> None:
    assert _part(admin.access_token, 0)["alg"] == "EdDSA"
    claims = _part(admin.access_token, 1)
    assert {
        "sub",
        "exp",
        "iat",
        "iss",
        "tenant_id",
        "organization_id",
        "roles",
        "permissions",
        "session_id",
        "mfa_verified",
    } <= claims.keys()
    assert claims["sub"] == str(admin.user_id)
    assert claims["tenant_id"] == str(admin.tenant_id)
    assert claims["roles"] == ["tenant_admin"]
    refresh = _part(admin.refresh_token, 1)
    assert refresh["token_type"] == "refresh"
    assert refresh["session_id"] == str(admin.session_id)


async def test_me_describes_the_caller(admin: Person) -> None:
    me = (await admin.client.get("/api/v1/auth/me")).json()
    assert me["user"]["email"] == admin.email
    assert me["tenant"]["id"] == str(admin.tenant_id)
    assert "devices:create" in me["permissions"]


async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(
    anonymous: httpx.AsyncClient, owner: Database, tenant_id: UUID
) -> None:
    _, email = await make_user(owner, tenant_id, None)
    answers = [
        await anonymous.post("/api/v1/auth/login", json={"email": who, "password": "wrong"})
        for who in (email, "nobody@example.org")
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()
    assert answers[0].headers["www-authenticate"] == "Bearer"


async def test_an_inactive_user_cannot_sign_in(
    anonymous: httpx.AsyncClient, owner: Database, tenant_id: UUID
) -> None:
    user_id, email = await make_user(owner, tenant_id, None)
    async with owner.transaction(tenant_id) as session:
        await session.execute(sa.update(User).where(col(User.id) == user_id).values(active=False))
    answer = await anonymous.post("/api/v1/auth/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 401


async def test_guessing_is_slowed_down_for_one_account_from_one_address(
    app: FastAPI, owner: Database, tenant_id: UUID
) -> None:
    _, email = await make_user(owner, tenant_id, None)
    async with client_for(app) as guesser:
        for _ in range(5):
            wrong = {"email": email, "password": "guess"}
            assert (await guesser.post("/api/v1/auth/login", json=wrong)).status_code == 401
        right = {"email": email, "password": PASSWORD}
        refused = await guesser.post("/api/v1/auth/login", json=right)
    assert refused.status_code == 429
    assert refused.json()["code"] == "too_many_requests"
    assert 0 < int(refused.headers["retry-after"]) <= 300


async def test_a_refresh_token_is_good_once(admin: Person, anonymous: httpx.AsyncClient) -> None:
    body = {"refresh_token": admin.refresh_token}
    renewed = await anonymous.post("/api/v1/auth/refresh", json=body)
    assert renewed.status_code == 200
    tokens = renewed.json()
    assert tokens["session_id"] == str(admin.session_id)
    bearer = {"authorization": f"Bearer {tokens['access_token']}"}
    assert (await anonymous.get("/api/v1/auth/me", headers=bearer)).status_code == 200


async def test_a_replayed_refresh_token_ends_the_whole_session(
    admin: Person, anonymous: httpx.AsyncClient, owner: Database
) -> None:
    body = {"refresh_token": admin.refresh_token}
    newer = (await anonymous.post("/api/v1/auth/refresh", json=body)).json()
    assert (await anonymous.post("/api/v1/auth/refresh", json=body)).status_code == 401

    newest = await anonymous.post(
        "/api/v1/auth/refresh", json={"refresh_token": newer["refresh_token"]}
    )
    assert newest.status_code == 401
    bearer = {"authorization": f"Bearer {newer['access_token']}"}
    assert (await anonymous.get("/api/v1/auth/me", headers=bearer)).status_code == 401
    async with owner.transaction(admin.tenant_id) as session:
        held = await session.get(UserSession, admin.session_id)
        assert held is not None
        assert held.end_reason == "refresh_token_replayed"
        actions = await session.scalars(
            select(AuditEntry.action).where(col(AuditEntry.resource_id) == str(admin.session_id))
        )
        assert "auth.refresh_replayed" in set(actions)


async def test_after_logout_the_access_token_is_refused(admin: Person) -> None:
    assert (await admin.client.post("/api/v1/auth/logout")).status_code == 204
    answer = await admin.client.get("/api/v1/auth/me")
    assert answer.status_code == 401
    assert answer.json()["code"] == "not_authenticated"


async def test_a_session_ended_in_the_database_is_refused_once_it_is_forgotten(
    admin: Person, owner: Database, app: FastAPI
) -> None:
    async with owner.transaction(admin.tenant_id) as session:
        await session.execute(
            sa.update(UserSession)
            .where(col(UserSession.id) == admin.session_id)
            .values(ended_at=sa.func.now())
        )
    # No request was made before, so the cache knows nothing and the record decides.
    assert (await admin.client.get("/api/v1/auth/me")).status_code == 401


async def test_a_refresh_token_is_no_access_token(admin: Person) -> None:
    admin.client.headers["authorization"] = f"Bearer {admin.refresh_token}"
    assert (await admin.client.get("/api/v1/auth/me")).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        lambda t: "",
        lambda t: "x.y.z",
        lambda t: t[:-4] + "AAAA",
        lambda t: f"{_header('none')}.{t.split('.')[1]}.",
        lambda t: f"{_header('HS256')}.{t.split('.')[1]}.{t.split('.')[2]}",
        lambda t: "é" * 20,
    ],
)
async def test_a_forged_token_is_refused(admin: Person, change: Callable[[str], str]) -> None:
    token = change(admin.access_token).encode()
    answer = await admin.client.get(
        "/api/v1/auth/me", headers={b"authorization": b"Bearer " + token}
    )
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def _header(algorithm: str) -> str:
    text = json.dumps({"alg": algorithm, "typ": "JWT"}).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


async def test_an_access_token_that_is_over_is_refused(
    admin: Person, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(settings)
    tokens.access_seconds = -60
    admin.client.headers["authorization"] = "Bearer " + tokens.issue_access(
        user_id=admin.user_id,
        tenant_id=admin.tenant_id,
        organization_id=admin.tenant_id,
        session_id=admin.session_id,
        grants=Grants((), ()),
    )
    answer = await admin.client.get("/api/v1/auth/me")
    assert answer.status_code == 401
    assert "over" in answer.json()["detail"]


async def test_unknown_users_cost_as_much_as_known_ones(
    app: FastAPI, owner: Database, tenant_id: UUID
) -> None:
    passwords = app.state.services.passwords
    encoded = await passwords.hash(PASSWORD)
    await passwords.verify("warm up", None)

    async def cost(stored: str | None) -> float:
        best = float("inf")
        for _ in range(3):
            started = time.perf_counter()
            await passwords.verify("wrong", stored)
            best = min(best, time.perf_counter() - started)
        return best

    known, unknown = await cost(encoded), await cost(None)
    assert 0.4 < known / unknown < 2.5


async def test_the_first_administrator_is_made_once(
    postgres_server: Settings, anonymous: httpx.AsyncClient, enter: Enter
) -> None:
    where = {
        "organization": "Acme",
        "tenant": "Plant",
        "subdomain": "plant-of-bootstrap",
        "email": "Admin@Plant.example",
    }
    tenant, password = await create_administrator(postgres_server, **where)
    assert password is not None
    again, none = await create_administrator(postgres_server, **where)
    assert (again, none) == (tenant, None)
    login = await anonymous.post(
        "/api/v1/auth/login", json={"email": "admin@plant.example", "password": password}
    )
    claims = _part(login.json()["access_token"], 1)
    assert claims["tenant_id"] == str(tenant)
    assert claims["roles"] == ["super_admin", "tenant_admin"]
