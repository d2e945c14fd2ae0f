"""Alarms as automations raise and clear them. What people do with them: `alerts`."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from core.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is to be raised.

    Attributes:
        name: Of its definition, which is made if it is not there.
        key: Idempotency key: the same cause counts once.
    """

    name: str
    severity: str
    message: str
    details: dict[str, Any]
    device_id: UUID | None
    execution_id: UUID
    key: str


@dataclass(frozen=True, slots=True)
class RaisedAlarm:
    """An alarm that is open; `times` tells how often it was raised since it was clear."""

    id: UUID
    times: int
    status: str


# Raising again an alarm that is open counts; the key of the last raise is kept in the details, so
# that a step that is repeated after a crash does not count twice.
_RAISE = sa.text(
    """
    WITH earlier AS (
        SELECT id, count, status FROM alert_instances WHERE source_key = :key
    ), found AS (
        SELECT id FROM alerts WHERE tenant_id = :tenant_id AND name = :name
    ), made AS (
        INSERT INTO alerts (tenant_id, name, description, severity)
        SELECT :tenant_id, :name, '', :severity WHERE NOT EXISTS (SELECT FROM found)
        ON CONFLICT (tenant_id, name) DO NOTHING
        RETURNING id
    ), definition AS (
        SELECT id FROM found UNION ALL SELECT id FROM made
    ), raised AS (
        INSERT INTO alert_instances AS open
            (tenant_id, alert_id, device_id, execution_id, severity, message, details, source_key)
        SELECT :tenant_id, definition.id, :device_id,
               (SELECT id FROM workflow_executions WHERE id = :execution_id),
               :severity, :message, CAST(:details AS jsonb), :key
        FROM definition WHERE NOT EXISTS (SELECT FROM earlier)
        ON CONFLICT (alert_id, device_id) WHERE status <> 'cleared' DO UPDATE SET
            count = open.count
                + (open.details ->> 'raised_by' IS DISTINCT FROM excluded.source_key)::int,
            severity = excluded.severity,
            message = excluded.message,
            execution_id = excluded.execution_id,
            details = excluded.details || jsonb_build_object('raised_by', excluded.source_key)
        RETURNING id, count, status
    )
    SELECT id, count AS times, status FROM raised
    UNION ALL SELECT id, count, status FROM earlier
    """
)
_CLEAR = sa.text(
    """
    UPDATE alert_instances SET status = 'cleared', cleared_at = now()
    WHERE tenant_id = :tenant_id AND status <> 'cleared'
        AND device_id IS NOT DISTINCT FROM :device_id
        AND alert_id = (SELECT id FROM alerts WHERE tenant_id = :tenant_id AND name = :name)
    RETURNING id
    """
).bindparams(sa.bindparam("device_id", type_=sa.Uuid))


async def raise_alarm(session: AsyncSession, tenant_id: UUID, alarm: Alarm) -> RaisedAlarm:
    """Raise an alarm, or count it when it is open for the device already.

    Raises:
        NotFoundError: The tenant has no such device.
    """
    await check_device(session, tenant_id, alarm.device_id)
    values = {
        "tenant_id": tenant_id,
        "name": alarm.name,
        "severity": alarm.severity,
        "message": alarm.message,
        "details": msgspec.json.encode(alarm.details).decode(),
        "device_id": alarm.device_id,
        "execution_id": alarm.execution_id,
        "key": alarm.key,
    }
    row = (await session.execute(_RAISE, values)).first()
    if row is None:
        # Another transaction made the definition meanwhile; the next statement sees it.
        row = (await session.execute(_RAISE, values)).one()
    return RaisedAlarm(row.id, row.times, row.status)


async def clear_alarm(
    session: AsyncSession, tenant_id: UUID, name: str, device_id: UUID | None
) -> list[UUID]:
    """Clear the alarm of a device, and return what was open."""
    rows = await session.execute(
        _CLEAR, {"tenant_id": tenant_id, "name": name, "device_id": device_id}
    )
    return [row.id for row in rows]


_DEVICE = sa.text("SELECT 1 FROM devices WHERE tenant_id = :tenant_id AND id = :device_id")


async def check_device(session: AsyncSession, tenant_id: UUID, device_id: UUID | None) -> None:
    """Check that a device, if there is one, is the tenant's.

    Raises:
        NotFoundError: It is not.
    """
    if device_id is None:
        return
    found = await session.execute(_DEVICE, {"tenant_id": tenant_id, "device_id": device_id})
    if found.first() is None:
        raise NotFoundError(f"there is no device {device_id}")
