"""A tenant with something of everything, so that no page is empty."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from core.db.session import Database
from core.db.tables import (
    Alert,
    AlertInstance,
    DeadLetter,
    Device,
    DeviceAttributes,
    DeviceCommand,
    LatestTelemetry,
    MetricList,
    Telemetry,
    Workflow,
    WorkflowExecution,
    WorkflowStepRun,
    WorkflowVersion,
)
from tests.support.tenants import make_device, make_profile

METRICS = ["T24", "T30", "T50", "P30", "Nf", "phi"]
LEVELS = [642.0, 1590.0, 1410.0, 553.0, 2388.0, 521.0]
MESSAGES = 120
DEFINITION = {
    "name": "Engine overheating",
    "triggers": [{"type": "manual"}],
    "actions": [
        {
            "id": "ok",
            "type": "approval",
            "with": {"to": ["role:tenant_admin"], "message": "Throttle engine 1 to 40 %?"},
        },
    ],
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a test refers to."""

    device_id: UUID
    alarm_id: UUID
    workflow_id: UUID
    run_id: UUID


async def make_fleet(owner: Database, tenant_id: UUID, devices: int = 60) -> Fleet:
    """Fill a tenant: devices, measurements, an alarm, and a run that waits for an approval."""
    profile_id = await make_profile(owner, tenant_id, "turbofan")
    made = await make_device(owner, tenant_id, profile_id, name="engine-001")
    async with owner.transaction(tenant_id) as session:
        states = ("online", "online", "online", "offline", "warning", "error")
        session.add_all(
            Device(
                tenant_id=tenant_id,
                profile_id=profile_id,
                name=f"engine-{number:03}",
                status=states[number % len(states)],
                lifecycle="active",
                last_seen=datetime.now(UTC) - timedelta(minutes=number),
            )
            for number in range(2, devices + 1)
        )
    await _measure(owner, tenant_id, made.id)
    await _talk(owner, tenant_id, made.id)
    workflow_id, run_id = await _run(owner, tenant_id, made.id)
    alarm_id = await _alarm(owner, tenant_id, made.id, run_id)
    return Fleet(made.id, alarm_id, workflow_id, run_id)


async def _measure(owner: Database, tenant_id: UUID, device_id: UUID) -> None:
    start = datetime.now(UTC) - timedelta(seconds=5 * MESSAGES)
    async with owner.transaction(tenant_id) as session:
        metrics = MetricList(tenant_id=tenant_id, names=METRICS)
        session.add(metrics)
        await session.flush()
        assert metrics.id is not None
        rows = [
            Telemetry(
                device_id=device_id,
                time=start + timedelta(seconds=5 * step),
                metrics_id=metrics.id,
                values=[
                    level * (1 + 0.01 * math.sin(step / 9 + place))
                    for place, level in enumerate(LEVELS)
                ],
            )
            for step in range(MESSAGES)
        ]
        session.add_all(rows)
        session.add(
            LatestTelemetry(
                device_id=device_id,
                tenant_id=tenant_id,
                metrics_id=metrics.id,
                time=rows[-1].time,
                values=rows[-1].values,
            )
        )


async def _talk(owner: Database, tenant_id: UUID, device_id: UUID) -> None:
    now = datetime.now(UTC)
    async with owner.transaction(tenant_id) as session:
        session.add(
            DeviceAttributes(
                device_id=device_id,
                tenant_id=tenant_id,
                desired={"interval": 5, "limits": {"T50": 1420}},
                desired_version=3,
                desired_at=now,
                reported={"interval": 5, "firmware": "2.1.0"},
                reported_version=9,
                reported_at=now,
            )
        )
        session.add(
            DeviceCommand(
                tenant_id=tenant_id,
                device_id=device_id,
                name="throttle",
                payload={"to": 0.4},
                status="answered",
                response={"ok": True},
                answered_at=now,
                expires_at=now + timedelta(minutes=1),
            )
        )
        session.add(
            DeadLetter(
                tenant_id=tenant_id,
                device_id=device_id,
                topic=f"v1/devices/{device_id}/telemetry",
                payload=b'{"T24": "hot"}',
                code="not_a_number",
                pointer="/T24",
                message="A measurement must be a number or a boolean.",
            )
        )


async def _run(owner: Database, tenant_id: UUID, device_id: UUID) -> tuple[UUID, UUID]:
    now = datetime.now(UTC)
    async with owner.transaction(tenant_id) as session:
        workflow = Workflow(
            tenant_id=tenant_id,
            name="Engine overheating",
            description="Asks the model and a person, then throttles the engine.",
            current_version=1,
        )
        session.add(workflow)
        await session.flush()
        session.add(
            WorkflowVersion(
                workflow_id=workflow.id, version=1, tenant_id=tenant_id, definition=DEFINITION
            )
        )
        run = WorkflowExecution(
            tenant_id=tenant_id,
            workflow_id=workflow.id,
            version=1,
            event_key="made",
            temporal_id=f"made-{workflow.id}",
            device_id=device_id,
            trigger={"type": "telemetry", "metric": "T50", "value": 1424.3},
            status="waiting",
            started_at=now - timedelta(minutes=4),
        )
        session.add(run)
        await session.flush()
        session.add_all(_steps(tenant_id, run.id, now))
        return workflow.id, run.id


def _steps(tenant_id: UUID, run_id: UUID, now: datetime) -> list[WorkflowStepRun]:
    trace: list[tuple[str, str, str, int]] = [
        ("predict", "predict", "completed", 2),
        ("gate", "if", "running", 1),
        ("gate.then.ok", "approval", "waiting", 1),
    ]
    outputs = {"predict": {"probability": 0.91, "confidence": 0.8}}
    inputs = {"gate.then.ok": {"message": "Throttle engine 1 to 40 %?", "to": ["role:team_lead"]}}
    return [
        WorkflowStepRun(
            execution_id=run_id,
            tenant_id=tenant_id,
            path=path,
            position=position,
            step_type=step_type,
            status=status,
            attempt=attempt,
            input=inputs.get(path, {"device_id": "trigger"}),
            output=outputs.get(path),
            started_at=now - timedelta(minutes=4) + timedelta(seconds=position),
            completed_at=now - timedelta(minutes=3, seconds=58) if status == "completed" else None,
        )
        for position, (path, step_type, status, attempt) in enumerate(trace)
    ]


async def _alarm(owner: Database, tenant_id: UUID, device_id: UUID, run_id: UUID) -> UUID:
    async with owner.transaction(tenant_id) as session:
        alert = Alert(tenant_id=tenant_id, name="Overheating", severity="critical")
        session.add(alert)
        await session.flush()
        instance = AlertInstance(
            tenant_id=tenant_id,
            alert_id=alert.id,
            device_id=device_id,
            execution_id=run_id,
            severity="critical",
            message="Less than 20 cycles of life are left.",
            source_key=f"made-{alert.id}",
            count=3,
        )
        session.add(instance)
        return instance.id
