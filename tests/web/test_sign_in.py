"""Signing in, staying signed in, and leaving."""

import pytest
from playwright.async_api import Page, Route, expect

from tests.web.conftest import Account, sign_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_a_wrong_password_is_told_and_leads_nowhere(page: Page, account: Account) -> None:
    await sign_in(page, account, password="wrong")
    refusal = page.get_by_role("alert").filter(has_text="could not be signed in")
    await expect(refusal).to_contain_text("password")
    await expect(page).to_have_url("/login/")


async def test_a_user_comes_back_to_the_page_that_was_wanted(page: Page, account: Account) -> None:
    await page.goto("/alerts/?status=raised")
    await expect(page).to_have_url("/login/?next=%2Falerts%2F%3Fstatus%3Draised")
    await sign_in(page, account)
    await expect(page.get_by_role("heading", name="Alerts")).to_be_visible()
    await expect(page).to_have_url("/alerts/?status=raised")


async def test_a_session_survives_a_reload_and_ends_with_signing_out(signed_in: Page) -> None:
    await signed_in.reload()
    await expect(signed_in.get_by_role("heading", name="Overview")).to_be_visible()
    await signed_in.get_by_role("button", name="Sign out").click()
    await expect(signed_in.get_by_role("heading", name="Sign in")).to_be_visible()
    await signed_in.goto("/devices/")
    await expect(signed_in.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_an_access_token_that_is_over_is_replaced_unseen(signed_in: Page) -> None:
    refreshed: list[str] = []

    async def spoil_the_first_token(route: Route) -> None:
        headers = await route.request.all_headers()
        if not refreshed:
            headers["authorization"] = "Bearer over"
        await route.continue_(headers=headers)

    signed_in.on(
        "request",
        lambda request: refreshed.append(request.url) if "/auth/refresh" in request.url else None,
    )
    await signed_in.route("**/api/v1/workflows**", spoil_the_first_token)
    await signed_in.get_by_role("link", name="Workflows", exact=True).click()
    await expect(signed_in.get_by_text("No workflows yet")).to_be_visible()
    assert len(refreshed) == 1
