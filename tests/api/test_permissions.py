"""Every route says who may use it, and what it says holds."""

import re
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from sqlmodel import select

from api.app import create_app
from api.security.permissions import (
    BrokerOnly,
    DeviceOnly,
    Public,
    Requires,
    RequiresToSubscribe,
    SignedIn,
    declarations,
    public,
    refuse_undeclared,
    requires,
)
from core.db.session import Database
from core.db.tables import Permission
from core.errors import ConfigurationError
from core.settings import Settings
from tests.api.conftest import Enter

_PUBLIC = {
    "/api/v1/auth/login",
    "/api/v1/auth/refresh",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/{name}",
}
_OF_DEVICES = {"/api/v1/{access_token}/telemetry", "/api/v1/{access_token}/attributes"}


def _filled(path: str) -> str:
    return re.sub(
        r"\{(\w+)\}",
        lambda m: "1" if m[1] == "version" else "00000000-0000-4000-8000-000000000000",
        path,
    )


async def test_every_route_and_websocket_declares_exactly_one_permission(
    settings: Settings,
) -> None:
    found = list(declarations(create_app(settings).routes))
    assert len(found) > 60
    assert [(methods, path) for methods, path, one in found if one is None] == []
    assert {path for _, path, one in found if isinstance(one, Public)} == _PUBLIC
    assert {path for _, path, one in found if isinstance(one, DeviceOnly)} == _OF_DEVICES
    hooks = {path for _, path, one in found if isinstance(one, BrokerOnly)}
    assert {path.rpartition("/")[0] for path in hooks} == {"/api/v1/mqtt"}
    sockets = {path for methods, path, _ in found if methods == "WEBSOCKET"}
    assert sockets == {"/ws/device-data", "/ws/alerts", "/ws/dashboard"}


async def test_every_declared_permission_is_in_the_table(
    settings: Settings, owner: Database
) -> None:
    async with owner.transaction(None) as session:
        known = set(await session.scalars(select(Permission.name)))
    declared = {
        one.permission
        for _, _, one in declarations(create_app(settings).routes)
        if isinstance(one, Requires | RequiresToSubscribe)
    }
    assert declared <= known


async def test_an_application_with_an_undeclared_route_is_not_made() -> None:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/open", dependencies=[public])
    async def declared() -> None: ...

    refuse_undeclared(app.routes)

    @app.get("/twice", dependencies=[public, requires("devices:read")])
    async def twice() -> None: ...

    @app.get("/forgotten")
    async def forgotten() -> None: ...

    with pytest.raises(ConfigurationError, match=r"/twice; GET /forgotten"):
        refuse_undeclared(app.routes)


async def test_nobody_gets_in_without_a_token(app: FastAPI, anonymous: httpx.AsyncClient) -> None:
    for methods, path, one in declarations(app.routes):
        if isinstance(one, Requires | SignedIn | BrokerOnly):
            answer = await anonymous.request(methods, _filled(path))
            assert answer.status_code == 401, (methods, path, answer.text)


async def test_a_user_without_roles_may_do_nothing(
    app: FastAPI, enter: Enter, tenant_id: object
) -> None:
    person = await enter(tenant_id, None)
    for methods, path, one in declarations(app.routes):
        if isinstance(one, Requires):
            answer = await person.client.request(methods, _filled(path), json={})
            assert answer.status_code == 403, (methods, path, answer.text)
            assert one.permission in answer.json()["detail"]


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("end_user", {"devices:read", "telemetry:read", "analytics:read"}, {"workflows:create"}),
        ("team_lead", {"workflows:create", "workflows:approve"}, {"devices:create"}),
        ("department_manager", {"devices:create", "models:train"}, {"users:manage"}),
        ("tenant_admin", {"users:manage", "audit:read"}, {"system:manage", "tenants:manage"}),
        ("super_admin", {"system:manage", "tenants:manage"}, set()),
    ],
)
async def test_roles_grant_what_the_authorization_model_says(
    owner: Database, role: str, may: set[str], may_not: set[str]
) -> None:
    async with owner.transaction(None) as session:
        granted = set(
            await session.scalars(
                sa.text(
                    "SELECT p.permission FROM role_permissions p JOIN roles r ON r.id = p.role_id "
                    "WHERE r.name = :role AND r.tenant_id IS NULL"
                ),
                {"role": role},
            )
        )
    assert may <= granted
    assert not may_not & granted


def test_operation_ids_are_unique_and_stable(settings: Settings) -> None:
    document = create_app(settings).openapi()
    ids = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))
    assert "devices_create_device" in ids
    operation = document["paths"]["/api/v1/devices"]["post"]
    assert operation["x-permission"] == "devices:create"
    assert "application/problem+json" in operation["responses"]["422"]["content"]


def test_the_documented_routes_are_the_applications(settings: Settings) -> None:
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    documented = set(re.findall(r"^\| `(\w+ /\S+)` \| `?([\w: ]+?)`? \|", text, re.MULTILINE))
    words = {
        Public: "anybody",
        SignedIn: "signed in",
        DeviceOnly: "device key",
        BrokerOnly: "broker secret",
    }
    declared = {
        (f"{method} {path}", getattr(one, "permission", None) or words[type(one)])
        for methods, path, one in declarations(create_app(settings).routes)
        for method in methods.split(",")
        if method != "WEBSOCKET"
        and path not in ("/docs", "/docs/{name}", "/openapi.json", "/metrics")
    }
    assert documented == declared
