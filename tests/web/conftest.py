"""The built application, the API that serves it, and a browser that shows it."""

import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from api.auth.bootstrap import create_administrator
from api.main import server
from core.settings import Settings
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
expect.set_options(timeout=15_000)

PASSWORD = "correct horse battery staple"
# Without a sandbox, which root cannot have, and without calls home.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """Return the browser of the distribution; Playwright's own would have to be downloaded."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can sign in."""

    tenant_id: UUID
    email: str


@pytest.fixture(scope="session")
def web_files() -> None:
    """The application, built; that costs nothing when its sources have not changed."""
    subprocess.run([sys.executable, "web/tools/build.py"], cwd=ROOT, check=True, timeout=540)


@pytest.fixture(scope="session")
def api_url(web_files: None, postgres_server: Settings, valkey_server: Settings) -> Iterator[str]:
    """The API, serving the application, in a thread of its own."""
    api = server(postgres_server)
    thread = threading.Thread(target=api.run, name="api")
    thread.start()
    try:
        asyncio.run(eventually(lambda: api.started or not thread.is_alive(), timeout=30))
        assert api.started
        yield postgres_server.api_url
    finally:
        api.should_exit = True
        thread.join(20)


@pytest.fixture
async def account(api_url: str, postgres_server: Settings) -> Account:
    """The administrator of a new tenant."""
    name = f"web-{uuid4().hex[:10]}"
    email = f"admin@{name}.example"
    tenant_id, _ = await create_administrator(
        postgres_server,
        organization=name,
        tenant=name,
        subdomain=name,
        email=email,
        password=PASSWORD,
    )
    return Account(tenant_id, email)


@pytest.fixture
async def client(api_url: str, account: Account) -> AsyncIterator[httpx.AsyncClient]:
    """The API as the account, for what a test needs beside the browser."""
    async with httpx.AsyncClient(base_url=api_url, timeout=20) as http:
        answer = await http.post(
            "/api/v1/auth/login", json={"email": account.email, "password": PASSWORD}
        )
        answer.raise_for_status()
        http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        yield http


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("no chromium on this machine; on Debian: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=CHROMIUM_ARGUMENTS
        )
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser, api_url: str) -> AsyncIterator[Page]:
    """A page that fails its test for what a user would not see.

    Errors in the console, a refusal by the Content-Security-Policy among them; and requests to
    anybody else's server.
    """
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        # The browser itself logs answers that are not a success; the tests expect some.
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def watch(request: Request) -> None:
        if not request.url.startswith((api_url, "data:", "blob:")):
            complaints.append(f"request to {request.url}")

    context = await browser.new_context(
        base_url=api_url, viewport={"width": 1280, "height": 800}, reduced_motion="reduce"
    )
    page = await context.new_page()
    page.set_default_timeout(15_000)
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", watch)
    yield page
    await context.close()
    assert complaints == []


@pytest.fixture
async def signed_in(page: Page, account: Account) -> Page:
    """A page on the overview, with the account signed in."""
    await sign_in(page, account)
    await page.get_by_role("heading", name="Overview").wait_for()
    return page


async def sign_in(page: Page, account: Account, password: str = PASSWORD) -> None:
    """Fill in the form and send it; opens it first if it is not there."""
    if "/login/" not in page.url:
        await page.goto("/login/")
    await page.get_by_label("E-mail").fill(account.email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()
