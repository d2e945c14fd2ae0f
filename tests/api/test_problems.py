"""Every error is a problem document, and none tells what is inside."""

import asyncio
import dataclasses
import logging
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from api.app import create_app
from api.problems import pointer
from api.security.permissions import public
from core.settings import Settings
from tests.api.conftest import Person, client_for
from tests.support.servers import free_port


def _is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"urn:iotlinker:problem:{code}"
    assert document["title"]
    assert document["detail"]
    return document


def test_pointers_escape_what_rfc_6901_says() -> None:
    assert pointer(["a/b", 0, "m~n"]) == "/a~1b/0/m~0n"
    assert pointer([]) == ""


async def test_a_malformed_body_names_every_place(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/api/v1/devices",
        json={"type": "x", "location": {"latitude": 91, "longitude": "far"}, "colour": "red"},
    )
    problem = _is_problem(answer, 422, "invalid_input")
    errors = problem["errors"]
    assert isinstance(errors, list)
    assert {error["pointer"] for error in errors} == {
        "/name",
        "/location/latitude",
        "/location/longitude",
        "/colour",
    }


async def test_a_bad_parameter_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/devices", params={"limit": 0, "status": "asleep"})
    problem = _is_problem(answer, 422, "invalid_input")
    text = str(problem["errors"])
    assert "'limit'" in text
    assert "'status'" in text
    assert "online" in text


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b"null", b'{"name": "\\ud800"}', b"\xff"])
async def test_a_body_that_is_no_json_object_is_refused(
    client: httpx.AsyncClient, body: bytes
) -> None:
    answer = await client.post(
        "/api/v1/devices", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "metadata", ['{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": 1e999}', '{"a": "\\ud800"}']
)
async def test_what_the_database_cannot_store_is_the_callers_fault(
    client: httpx.AsyncClient, metadata: str
) -> None:
    answer = await client.post(
        "/api/v1/devices",
        content=f'{{"name": "x", "type": "sensor", "metadata": {metadata}}}',
        headers={"content-type": "application/json"},
    )
    _is_problem(answer, 422, "invalid_input")


async def test_an_unknown_path_and_a_wrong_method(client: httpx.AsyncClient) -> None:
    _is_problem(await client.get("/api/v1/nothing"), 404, "not_found")
    wrong = await client.put("/api/v1/devices")
    _is_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"]


async def test_a_body_that_is_too_long_is_refused_unread(
    client: httpx.AsyncClient, anonymous: httpx.AsyncClient
) -> None:
    long = b'{"name": "' + b"x" * (1024 * 1024) + b'"}'
    json = {"content-type": "application/json"}
    announced = await anonymous.post("/api/v1/devices", content=long, headers=json)
    _is_problem(announced, 413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(long), 65536):
            yield long[start : start + 65536]

    unannounced = await client.post("/api/v1/devices", content=chunks(), headers=json)
    _is_problem(unannounced, 413, "too_large")


async def test_an_unforeseen_error_tells_nothing_but_an_id_for_the_log(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings)

    @app.get("/crash", dependencies=[public])
    async def crash() -> None:
        raise RuntimeError("the secret is 42")

    with caplog.at_level(logging.ERROR):
        async with client_for(app) as client:
            answer = await client.get("/crash")
    problem = _is_problem(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert UUID(str(problem["id"]))


async def test_an_answer_that_breaks_its_own_model_is_an_internal_error(
    settings: Settings,
) -> None:
    app = create_app(settings)

    class Model(BaseModel):
        number: int

    @app.get("/broken", dependencies=[public], response_model=Model)
    async def broken() -> dict[str, str]:
        return {"number": "secret"}

    async with client_for(app) as client:
        answer = await client.get("/broken")
    _is_problem(answer, 500, "internal_error")
    assert "secret" not in answer.text


async def _elsewhere(settings: Settings, **changes: Any) -> AsyncIterator[FastAPI]:
    app = create_app(dataclasses.replace(settings, **changes))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def without_database(settings: Settings, valkey_server: Settings) -> AsyncIterator[FastAPI]:
    """An application whose database does not answer."""
    nowhere = settings.database.model_copy(update={"port": free_port()})
    async for app in _elsewhere(settings, database=nowhere):
        yield app


async def test_without_the_database_the_answer_is_503_and_when_to_come_again(
    without_database: FastAPI, admin: Person
) -> None:
    bearer = {"authorization": f"Bearer {admin.access_token}"}
    async with client_for(without_database) as client:
        for request in (
            client.get("/api/v1/devices", headers=bearer),
            client.post("/api/v1/auth/login", json={"email": "a@b.c", "password": "x"}),
        ):
            answer = await request
            _is_problem(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert "127.0.0.1" not in answer.text


async def test_the_unready_part_is_named(
    without_database: FastAPI, anonymous: httpx.AsyncClient
) -> None:
    async with client_for(without_database) as client:
        answer = await client.get("/readyz")
        problem = _is_problem(answer, 503, "not_ready")
        down = problem["down"]
        assert isinstance(down, list)
        assert "database" in down
        assert "valkey" not in down
        assert "mlflow" not in down  # reported, and not needed
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_parts_that_are_up_are_told_so(
    anonymous: httpx.AsyncClient, temporal_server: Settings
) -> None:
    problem = (await anonymous.get("/readyz")).json()
    assert problem["down"] == ["broker"]  # no broker runs in this test
    assert {name: part["up"] for name, part in problem["parts"].items() if part["needed"]} == {
        "database": True,
        "valkey": True,
        "temporal": True,
        "broker": False,
    }


@pytest.fixture
async def without_valkey(settings: Settings, postgres_server: Settings) -> AsyncIterator[FastAPI]:
    """An application whose Valkey does not answer."""
    nowhere = settings.valkey.model_copy(update={"port": free_port()})
    async for app in _elsewhere(postgres_server, valkey=nowhere):
        yield app


async def test_without_valkey_the_database_decides_and_work_goes_on(
    without_valkey: FastAPI, admin: Person
) -> None:
    bearer = {"authorization": f"Bearer {admin.access_token}"}
    async with client_for(without_valkey, **bearer) as client:
        async with asyncio.timeout(60):
            made = await client.post("/api/v1/device-profiles", json={"name": "pump"})
            assert made.status_code == 201, made.text
            assert (await client.post("/api/v1/auth/logout")).status_code == 204
            assert (await client.get("/api/v1/auth/me")).status_code == 401


async def test_security_headers_are_on_everything(client: httpx.AsyncClient) -> None:
    for path in ("/api/v1/devices", "/api/v1/nothing", "/healthz", f"/{uuid4()}"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"


async def test_metrics_count_by_route_template(client: httpx.AsyncClient) -> None:
    async def counted() -> tuple[float, str]:
        text = (await client.get("/metrics")).text
        line = (
            r'iotlinker_http_requests_total\{method="GET",route="/api/v1/devices/\{device_id\}",'
            r'status="404"\} (\S+)'
        )
        found = re.search(line, text)
        return (float(found[1]) if found else 0.0), text

    before, _ = await counted()
    await client.get(f"/api/v1/devices/{uuid4()}")
    await client.get("/api/v1/whatever-123")
    await client.request("BREW", "/api/v1/devices")
    after, text = await counted()
    assert after == before + 1
    assert "whatever-123" not in text
    assert "BREW" not in text


async def test_only_listed_origins_may_call_from_a_browser(
    settings: Settings, anonymous: httpx.AsyncClient
) -> None:
    api = settings.api.model_copy(update={"cors_origins": ["https://app.example"]})
    app = create_app(dataclasses.replace(settings, api=api))
    ask = {"access-control-request-method": "GET"}
    async with client_for(app) as client:
        good = await client.options("/healthz", headers={"origin": "https://app.example", **ask})
        bad = await client.options("/healthz", headers={"origin": "https://evil.example", **ask})
    assert good.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in bad.headers
