"""The OpenAPI document and the application agree, whatever is sent."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as limits
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlmodel import select

from api.app import create_app
from api.main import server
from api.security.tokens import Tokens
from core.db.repositories.identity import Grants
from core.db.session import Database
from core.db.tables import Permission, UserSession
from core.settings import Settings
from tests.api.conftest import make_user
from tests.support.servers import free_port, running
from tests.support.tenants import make_profile, make_tenant
from tests.support.waiting import eventually
from workers.stack.own import brokers

EXAMPLES = 6
"""Requests an operation."""
_LEFT_OUT = {
    "auth_logout",  # ends the session that the rest is done with
    "analytics_list_models",  # needs MLflow
    "operations_readyz",  # tells that parts are down, which they are here
}
_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def served(postgres_server: Settings, valkey_server: Settings) -> Iterator[Settings]:
    """A server in a thread with a loop of its own: the requests are made synchronously."""
    api = postgres_server.api.model_copy(update={"port": free_port()})
    settings = replace(postgres_server, api=api)
    uvicorn = server(settings)
    thread = Thread(target=lambda: asyncio.run(uvicorn.serve()), name="api")
    thread.start()
    try:
        asyncio.run(eventually(lambda: uvicorn.started))
        with running(brokers(settings)[0], settings):  # takes what is sent to devices
            yield settings
    finally:
        uvicorn.should_exit = True
        thread.join(20)


async def _token(settings: Settings) -> str:
    owner = Database.connect(settings, "owner")
    try:
        tenant_id = await make_tenant(owner)
        await make_profile(owner, tenant_id)
        user_id, _ = await make_user(owner, tenant_id, None)
        async with owner.transaction(tenant_id) as session:
            opened = UserSession(
                tenant_id=tenant_id,
                user_id=user_id,
                refresh_id=uuid4(),
                expires_at=datetime.now(UTC) + timedelta(hours=1),
            )
            session.add(opened)
            permissions = tuple(await session.scalars(select(Permission.name)))
        return Tokens(settings).issue_access(
            user_id=user_id,
            tenant_id=tenant_id,
            organization_id=tenant_id,
            session_id=opened.id,
            grants=Grants((), permissions),
        )
    finally:
        await owner.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_operation_keeps_to_its_description(served: Settings) -> None:
    bearer = {"Authorization": f"Bearer {asyncio.run(_token(served))}"}
    schema = schemathesis.openapi.from_dict(create_app(served).openapi())
    faults: dict[str, str] = {}
    tried = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        name = str(operation.definition.raw["operationId"])
        if name in _LEFT_OUT:
            continue
        tried += 1

        @limits(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(case=operation.as_strategy())
        def send(case: schemathesis.Case) -> None:
            case.call_and_validate(served.api_url, headers=bearer, checks=_CHECKS, timeout=30)

        try:
            send()
        except Exception as error:
            faults[name] = str(error)
    assert tried > 60
    assert faults == {}
