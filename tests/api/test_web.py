"""The web application's files."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from api import problems
from api.app import create_app
from api.web import serve_web
from core.settings import Settings
from tests.api.conftest import client_for


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that serves a few files."""
    out = tmp_path / "out"
    (out / "_next/static").mkdir(parents=True)
    (out / "guide").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (out / "index.html").write_text('<script src="/a.js"></script><script>start()</script>')
    (out / "404.html").write_text("no such page")
    (out / "devices.html").write_text("devices")
    (out / "guide/index.html").write_text("guide")
    (out / "_next/static/a.js").write_text("1")
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    problems.install(app)
    serve_web(app, out)
    async with client_for(app) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "start()"),
        ("/devices", "devices"),
        ("/devices/", "devices"),
        ("/guide", "guide"),
        ("/_next/static/a.js", "1"),
    ],
)
async def test_paths_lead_to_files(web: httpx.AsyncClient, path: str, text: str) -> None:
    answer = await web.get(path)
    assert answer.status_code == 200
    assert text in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/missing.js",
        "/some/route",
        "/api/v1/nothing",
        "/ws/nothing",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/a%00b.js",
    ],
)
async def test_what_is_not_there_is_a_problem(web: httpx.AsyncClient, path: str) -> None:
    answer = await web.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_browser_that_asks_for_a_missing_page_gets_one_that_says_so(
    web: httpx.AsyncClient,
) -> None:
    answer = await web.get("/some/route", headers={"accept": "text/html,*/*"})
    assert answer.status_code == 404
    assert answer.text == "no such page"


async def test_only_a_pages_own_inline_scripts_may_run(web: httpx.AsyncClient) -> None:
    policy = (await web.get("/")).headers["content-security-policy"]
    assert "script-src 'self' 'sha256-DIm7WJS6ZKDYe5qFLPy+h4JFI9Bol5QmYC57mt3Fb00='" in policy
    assert policy.count("sha256-") == 1
    assert "frame-ancestors 'none'" in policy


async def test_files_with_hashed_names_are_kept_by_browsers(web: httpx.AsyncClient) -> None:
    assert "immutable" in (await web.get("/_next/static/a.js")).headers["cache-control"]
    assert (await web.get("/")).headers["cache-control"] == "no-cache"


async def test_files_are_only_read(web: httpx.AsyncClient) -> None:
    assert (await web.post("/devices")).status_code == 405


async def test_without_files_there_is_nothing(tmp_path: Path) -> None:
    app = FastAPI(openapi_url=None)
    problems.install(app)
    serve_web(app, tmp_path / "none")
    async with client_for(app) as client:
        answer = await client.get("/")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


async def test_the_documentation_page_loads_nothing_from_elsewhere(settings: Settings) -> None:
    async with client_for(create_app(settings)) as client:
        page = await client.get("/docs")
        policy = page.headers["content-security-policy"]
        files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert "http" not in policy
        assert len(files) == 3
        for file in files:
            assert file.startswith("/docs/")
            assert (await client.get(file)).status_code == 200
        assert (await client.get("/docs/else.js")).status_code == 404
