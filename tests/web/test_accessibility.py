"""What every page must hold to: WCAG 2 A and AA as far as axe can tell, and room on a phone."""

from typing import Any, Literal

import pytest
from playwright.async_api import Page

from core.db.session import Database
from tests.web.conftest import ROOT, Account
from tests.web.fleet import Fleet, make_fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
CHECK = """async () => (await axe.run({
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
})).violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)])"""
TABS = ("History", "Commands", "Twin", "Alarms", "Rejected messages")


def addresses(fleet: Fleet) -> dict[str, str]:
    """Return every page and what it shows once it is loaded."""
    return {
        "/": "Recent runs",
        "/devices/": "engine-002",
        f"/devices/view/?id={fleet.device_id}": "Latest values",
        "/workflows/": "Engine overheating",
        "/workflows/new/": "Create workflow",
        f"/workflows/view/?id={fleet.workflow_id}": "Run now",
        f"/workflows/runs/view/?workflow={fleet.workflow_id}&id={fleet.run_id}": "gate.then.ok",
        "/alerts/": "Overheating",
    }


async def faults(page: Page) -> list[Any]:
    """Return what is wrong with the page as it stands."""
    # Through the debugger: the page's own policy refuses inline scripts.
    await page.evaluate(AXE.read_text())
    found: list[Any] = await page.evaluate(CHECK)
    wide: int = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return found + ([["wider than the screen", wide]] if wide > 0 else [])


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
async def test_every_page_is_accessible_and_fits(
    signed_in: Page,
    account: Account,
    owner: Database,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    fleet = await make_fleet(owner, account.tenant_id, devices=60)
    await signed_in.set_viewport_size({"width": width, "height": 840})
    await signed_in.emulate_media(color_scheme=scheme)
    wrong: dict[str, list[Any]] = {}
    for address, content in addresses(fleet).items():
        await signed_in.goto(address)
        await signed_in.get_by_text(content).first.wait_for()
        await signed_in.wait_for_load_state("networkidle")
        wrong[address] = await faults(signed_in)
    await signed_in.goto(f"/devices/view/?id={fleet.device_id}")
    for tab in TABS:
        await signed_in.get_by_role("tab", name=tab).click()
        await signed_in.wait_for_load_state("networkidle")
        wrong[tab] = await faults(signed_in)
    assert {place: found for place, found in wrong.items() if found} == {}


async def test_signing_in_and_adding_a_device_need_no_mouse(page: Page, account: Account) -> None:
    await page.goto("/login/")
    assert await faults(page) == []
    await page.keyboard.type(account.email)
    await page.keyboard.press("Tab")
    await page.keyboard.type("correct horse battery staple")
    await page.keyboard.press("Enter")
    await page.get_by_role("heading", name="Overview").wait_for()

    await page.goto("/devices/")
    add = page.get_by_role("button", name="Add device").first
    await add.focus()
    await page.keyboard.press("Enter")
    await page.keyboard.type("pump-1")
    await page.keyboard.press("Tab")
    await page.keyboard.type("pump")
    await page.keyboard.press("Enter")
    await page.get_by_text("pump-1 is registered").wait_for()
    assert await faults(page) == []
