"""The workflows', runs' and alarms' pages."""

import json
import re

import pytest
from playwright.async_api import Page, expect
from redis.asyncio import Redis

from core import bus as channels
from core.db.session import Database
from tests.web.conftest import Account
from tests.web.fleet import make_fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_a_faulty_definition_is_refused_with_the_places_of_its_faults(
    signed_in: Page,
) -> None:
    await signed_in.goto("/workflows/new/")
    editor = signed_in.get_by_role("textbox", name="Definition")
    await editor.fill('{"name": "x"')
    await signed_in.get_by_role("button", name="Create workflow").click()
    await expect(signed_in.get_by_text("This is not JSON")).to_be_visible()

    faulty = {"name": "x", "actions": [{"id": "a", "type": "alrm", "with": {}}]}
    await editor.fill(json.dumps(faulty))
    await signed_in.get_by_role("button", name="Create workflow").click()
    refusal = signed_in.get_by_role("alert").filter(has_text="was not saved")
    await expect(refusal).to_contain_text("/actions/0/type")
    await expect(refusal).to_contain_text("did you mean `alarm`?")


async def test_a_workflow_is_created_changed_and_disabled(signed_in: Page) -> None:
    await signed_in.goto("/workflows/new/")
    await signed_in.get_by_role("button", name="Create workflow").click()
    await expect(signed_in.get_by_role("heading", name="Temperature too high")).to_be_visible()
    await signed_in.get_by_role("tab", name="Definition").click()
    editor = signed_in.get_by_role("textbox", name="Definition")
    definition = json.loads(await editor.input_value())
    await editor.fill(json.dumps(definition | {"description": "changed"}))
    await signed_in.get_by_role("button", name="Save as new version").click()
    await expect(signed_in.get_by_text("version 2", exact=True)).to_be_visible()
    # A second save starts from what the first one made.
    await editor.fill(json.dumps(definition | {"description": "changed again"}))
    await signed_in.get_by_role("button", name="Save as new version").click()
    await expect(signed_in.get_by_text("version 3", exact=True)).to_be_visible()

    await signed_in.get_by_role("button", name="Disable").click()
    await signed_in.get_by_role("link", name="Workflows", exact=True).first.click()
    row = signed_in.get_by_role("row", name="Temperature too high")
    await expect(row).to_contain_text("disabled")
    await expect(row).to_contain_text("never")


async def test_a_run_shows_its_trace_and_asks_for_approval(
    signed_in: Page, account: Account, owner: Database
) -> None:
    fleet = await make_fleet(owner, account.tenant_id, devices=1)
    await signed_in.goto(f"/workflows/view/?id={fleet.workflow_id}")
    await signed_in.get_by_role("row", name="waiting").get_by_role("link").click()
    steps = signed_in.get_by_role("list", name="Steps")
    await expect(steps.get_by_role("listitem")).to_have_count(3)
    predict = steps.get_by_role("listitem").first
    await expect(predict).to_contain_text("attempt 2")
    await predict.get_by_text("predict").first.click()
    await expect(signed_in.get_by_label("Output of predict")).to_contain_text("0.91")
    await expect(signed_in.get_by_text("Throttle engine 1 to 40 %?").first).to_be_visible()
    await expect(signed_in.get_by_role("button", name="Approve")).to_be_enabled()
    await expect(signed_in.get_by_role("button", name="Cancel run")).to_be_enabled()


async def test_an_alarm_is_acknowledged_and_the_overview_follows_events(
    signed_in: Page, account: Account, owner: Database, bus: Redis
) -> None:
    await expect(signed_in.get_by_text("All is quiet.")).to_be_visible()
    await expect(signed_in.get_by_text("live", exact=True)).to_be_visible()
    await make_fleet(owner, account.tenant_id, devices=1)
    await bus.publish(channels.dashboard(account.tenant_id), json.dumps({"type": "alert_raised"}))
    await expect(signed_in.get_by_role("row", name=re.compile("^Overheating"))).to_be_visible()

    await signed_in.get_by_role("link", name="Alerts", exact=True).click()
    row = signed_in.get_by_role("row", name=re.compile("^Overheating"))
    await row.get_by_role("button", name="Acknowledge").click()
    await expect(row).to_contain_text("acknowledged")
    await expect(row.get_by_role("button")).to_have_count(0)
