"""One platform for all tests here: starting it takes some seconds."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest

from api.auth.bootstrap import create_administrator
from tests.e2e.platform import Platform
from workers.accounts import reset_password
from workers.demo.client import ApiClient

EMAIL = "chaos@example.com"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform, not started yet."""
    platform = Platform(tmp_path_factory.mktemp("platform"))
    try:
        yield platform
    finally:
        platform.end()


@asynccontextmanager
async def signed_in(platform: Platform) -> AsyncGenerator[ApiClient]:
    """A client with every permission of a tenant, the same one each time."""
    await create_administrator(
        platform.settings, organization="Chaos", tenant="Chaos", subdomain="chaos", email=EMAIL
    )
    password = await reset_password(platform.settings, EMAIL)
    async with ApiClient(platform.settings.api_url, EMAIL, password) as client:
        yield client
