"""The devices' pages."""

import json
import re
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
from playwright.async_api import Page, expect
from redis.asyncio import Redis

from core import bus as channels
from core.db.session import Database
from tests.web.conftest import Account
from tests.web.fleet import make_fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def publish(bus: Redis, device_id: UUID, **metrics: float) -> None:
    """Tell the bus of one stored message, as the broker does after its commit."""
    reading = {
        "device_id": str(device_id),
        "timestamp": datetime.now(UTC).isoformat(),
        "metrics": metrics,
    }
    await bus.publish(channels.telemetry(device_id), json.dumps([reading]))


async def test_the_list_pages_filters_and_keeps_both_in_the_address(
    signed_in: Page, account: Account, owner: Database
) -> None:
    await make_fleet(owner, account.tenant_id)
    await signed_in.goto("/devices/")
    await expect(signed_in.get_by_role("link", name="engine-001")).to_be_visible()
    await signed_in.get_by_role("button", name="Next").click()
    await expect(signed_in.get_by_role("link", name="engine-060")).to_be_visible()
    await expect(signed_in).to_have_url("/devices/?page=2")

    await signed_in.get_by_label("Search by name").fill("engine-03")
    await expect(signed_in.get_by_text("10 devices")).to_be_visible()
    await signed_in.get_by_label("Status").select_option("error")
    await expect(signed_in.get_by_text("1 device", exact=True)).to_be_visible()
    await expect(signed_in).to_have_url("/devices/?search=engine-03&status=error")
    await signed_in.reload()
    await expect(signed_in.get_by_text("1 device", exact=True)).to_be_visible()


async def test_a_new_device_of_a_new_type_shows_its_key_once(
    signed_in: Page, client: httpx.AsyncClient
) -> None:
    await signed_in.goto("/devices/")
    await expect(signed_in.get_by_text("No devices yet")).to_be_visible()
    await signed_in.get_by_role("button", name="Add device").first.click()
    dialog = signed_in.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("pump-1")
    await dialog.get_by_label("Type").fill("pump")
    await dialog.get_by_role("button", name="Add device").click()

    command = await dialog.get_by_label("Try it", exact=True).inner_text()
    key = await dialog.get_by_label("Device key", exact=True).inner_text()
    listed = (await client.get("/api/v1/devices")).json()["devices"]
    assert [(device["name"], device["type"]) for device in listed] == [("pump-1", "pump")]
    assert f"-u {listed[0]['id']} -P '{key}'" in command
    assert "mosquitto_pub" in command

    await signed_in.keyboard.press("Escape")
    await expect(dialog).to_be_visible()
    await dialog.get_by_role("button", name="I have kept the key").click()
    await expect(dialog).to_be_hidden()
    await expect(signed_in.get_by_role("link", name="pump-1")).to_be_visible()
    assert key not in await signed_in.content()


async def test_what_a_device_sends_appears_at_once(
    signed_in: Page, account: Account, owner: Database, bus: Redis
) -> None:
    fleet = await make_fleet(owner, account.tenant_id, devices=1)
    await signed_in.goto(f"/devices/view/?id={fleet.device_id}")
    await expect(signed_in.get_by_text("live", exact=True)).to_be_visible()
    await publish(bus, fleet.device_id, T24=777.5)
    latest = signed_in.get_by_role("row", name="T24")
    await expect(latest).to_contain_text("777.5")
    await expect(latest).to_contain_text("now")
    chart = signed_in.get_by_role("img", name=re.compile("T24: latest 777.5"))
    await expect(chart.locator("canvas")).to_be_visible()


async def test_a_device_page_answers_what_became_of_it(
    signed_in: Page, account: Account, owner: Database, client: httpx.AsyncClient
) -> None:
    fleet = await make_fleet(owner, account.tenant_id, devices=1)
    await signed_in.goto(f"/devices/view/?id={fleet.device_id}")

    await signed_in.get_by_role("tab", name="History").click()
    await signed_in.get_by_label("Range").select_option("Last hour")
    await expect(signed_in.get_by_role("img", name=re.compile("T24: latest"))).to_be_visible()

    await signed_in.get_by_role("tab", name="Commands").click()
    await signed_in.get_by_label("Name").fill("reboot")
    await signed_in.get_by_role("textbox", name="Payload").fill("[1]")
    await signed_in.get_by_role("button", name="Send command").click()
    await expect(signed_in.get_by_text("This must be a JSON object")).to_be_visible()
    await signed_in.get_by_role("textbox", name="Payload").fill('{"in": 5}')
    await signed_in.get_by_role("button", name="Send command").click()
    await expect(signed_in.get_by_role("row", name="reboot")).to_contain_text("pending")

    await signed_in.get_by_role("tab", name="Twin").click()
    await signed_in.get_by_label("Desired state").fill('{"interval": 10}')
    await signed_in.get_by_role("button", name="Save desired state").click()
    await expect(signed_in.get_by_text("version 4")).to_be_visible()
    twin = (await client.get(f"/api/v1/devices/{fleet.device_id}/twin")).json()
    assert twin["desired"]["state"] == {"interval": 10}

    await signed_in.get_by_role("tab", name="Rejected messages").click()
    await expect(signed_in.get_by_text("A measurement must be a number")).to_be_visible()


async def test_a_twin_that_another_has_changed_is_not_overwritten(
    signed_in: Page, account: Account, owner: Database, client: httpx.AsyncClient
) -> None:
    fleet = await make_fleet(owner, account.tenant_id, devices=1)
    await signed_in.goto(f"/devices/view/?id={fleet.device_id}")
    await signed_in.get_by_role("tab", name="Twin").click()
    await signed_in.get_by_label("Desired state").fill('{"mine": true}')
    theirs = await client.patch(
        f"/api/v1/devices/{fleet.device_id}/twin/desired", json={"theirs": True}
    )
    theirs.raise_for_status()
    await signed_in.get_by_role("button", name="Save desired state").click()
    await expect(
        signed_in.get_by_role("alert").filter(has_text="desired state was not saved")
    ).to_be_visible()
    await signed_in.get_by_role("button", name="Load version 4").click()
    await expect(signed_in.get_by_label("Desired state")).to_have_value(re.compile("theirs"))


async def test_a_device_that_does_not_exist_is_said_to_be_missing(signed_in: Page) -> None:
    await signed_in.goto("/devices/view/?id=00000000-0000-0000-0000-000000000000")
    alert = signed_in.get_by_role("alert").filter(has_text="could not be loaded")
    await expect(alert).to_contain_text("no such device")
