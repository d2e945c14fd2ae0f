"""The same cause is told to Temporal once."""

from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlmodel import col, select

from core.db.repositories.outbox import enqueue
from core.db.session import Database
from core.db.tables import TriggerOutbox
from core.temporal.names import Signal, WorkflowType
from core.temporal.outbox import OutboxPayload, SendSignal, StartRun, StartWorkflow
from tests.support.tenants import make_tenant


def run(event_key: str = "t0:device:1", value: float = 1.0, workflow: UUID | None = None) -> Any:
    return StartRun(
        workflow_id=str(workflow or UUID(int=1)),
        version=1,
        event_key=event_key,
        trigger={"type": "telemetry", "value": value},
    )


@pytest.fixture
def unique() -> str:
    return uuid4().hex


async def test_the_same_event_is_kept_once_with_its_first_payload(
    api_database: Database, tenant_id: UUID, unique: str
) -> None:
    for value, expected in ((1.0, True), (2.0, False)):
        async with api_database.transaction(tenant_id) as session:
            assert await enqueue(session, tenant_id, run(unique, value)) is expected
    async with api_database.transaction(tenant_id) as session:
        [row] = await session.scalars(
            select(TriggerOutbox).where(col(TriggerOutbox.key).endswith(unique))
        )
    assert row.kind == "start_run"
    assert row.payload["kind"] == "start_run"
    assert row.payload["trigger"]["value"] == 1.0


async def test_other_events_automations_and_tenants_are_kept_apart(
    owner: Database, api_database: Database, tenant_id: UUID, unique: str
) -> None:
    other = await make_tenant(owner)
    workflow = uuid4()
    for tenant, payload in (
        (tenant_id, run(unique)),
        (tenant_id, run(unique + "2")),
        (tenant_id, run(unique, workflow=workflow)),
        (other, run(unique)),
    ):
        async with api_database.transaction(tenant) as session:
            assert await enqueue(session, tenant, payload)


async def test_a_signal_and_a_start_of_one_workflow_are_two_rows(
    api_database: Database, tenant_id: UUID, unique: str
) -> None:
    start = StartWorkflow(WorkflowType.DEVICE_PROVISIONING, unique, {"n": 1})
    signal = SendSignal(unique, Signal.DEVICE_CONNECTED, {})
    payloads: list[tuple[OutboxPayload, bool]] = [
        (start, True),
        (signal, True),
        (start, False),
        (signal, False),
    ]
    for payload, expected in payloads:
        async with api_database.transaction(tenant_id) as session:
            assert await enqueue(session, tenant_id, payload) is expected


async def test_nothing_is_told_of_what_was_rolled_back(
    api_database: Database, tenant_id: UUID, unique: str
) -> None:
    async def cause() -> None:
        async with api_database.transaction(tenant_id) as session:
            await enqueue(session, tenant_id, run(unique))
            raise RuntimeError("the cause failed")

    with pytest.raises(RuntimeError):
        await cause()
    async with api_database.transaction(tenant_id) as session:
        assert await enqueue(session, tenant_id, run(unique))


async def test_a_tenant_cannot_write_for_another(
    owner: Database, api_database: Database, tenant_id: UUID, unique: str
) -> None:
    other = await make_tenant(owner)
    with pytest.raises(DBAPIError, match="row-level security"):
        async with api_database.transaction(tenant_id) as session:
            await enqueue(session, other, run(unique))


async def test_the_api_sees_the_outbox_of_its_own_tenant_only(
    owner: Database, api_database: Database, tenant_id: UUID, unique: str
) -> None:
    other = await make_tenant(owner)
    async with api_database.transaction(other) as session:
        await enqueue(session, other, run(unique))
    async with api_database.transaction(tenant_id) as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(TriggerOutbox)) == 0
