"""Device twins: what is wanted of a device, what it reports."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from api.devices.service import found, in_service
from api.errors import PreconditionFailedError
from api.schemas import View
from api.work import Work
from core import bus
from core.db.repositories import device_control
from core.db.tables import DeviceAttributes
from core.errors import InvalidInputError

MAX_DESIRED = 64 * 1024
"""Bytes of a desired state in JSON: it must fit into one MQTT message of a small device."""


class TwinState(View):
    """One half of a twin."""

    state: dict[str, Any]
    version: int
    updated_at: datetime | None


class TwinView(View):
    """A device twin."""

    device_id: UUID
    desired: TwinState
    reported: TwinState

    @classmethod
    def of(cls, row: DeviceAttributes) -> "TwinView":
        """Describe a stored twin."""
        return cls(
            device_id=row.device_id,
            desired=TwinState(
                state=row.desired or {},
                version=row.desired_version or 0,
                updated_at=row.desired_at,
            ),
            reported=TwinState(
                state=row.reported or {},
                version=row.reported_version or 0,
                updated_at=row.reported_at,
            ),
        )


def etag(twin: TwinView) -> str:
    """Return the entity tag: the version of the desired state."""
    return f'"{twin.desired.version}"'


def merge_patch(target: Any, patch: Any) -> Any:
    """Return `target` changed by a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


async def get(work: Work, device_id: UUID) -> TwinView:
    """Return a device's twin.

    Raises:
        NotFoundError: There is no such device.
    """
    await found(work, device_id)
    return TwinView.of(
        await device_control.twin(work.session, tenant_id=work.tenant_id, device_id=device_id)
    )


async def patch_desired(
    work: Work, device_id: UUID, patch: dict[str, Any], if_match: str | None
) -> TwinView:
    """Change a device's desired state; the broker sends it to the device.

    Raises:
        NotFoundError: There is no such device.
        ConflictError: It is out of service.
        PreconditionFailedError: `if_match` names another version.
        InvalidInputError: The state would become too long.
    """
    await in_service(work, device_id)
    row = await device_control.twin(
        work.session, tenant_id=work.tenant_id, device_id=device_id, lock=True
    )
    current = f'"{row.desired_version}"'
    if if_match is not None and if_match.strip() not in ("*", current):
        raise PreconditionFailedError(f"The desired state has the version {current} now.")
    desired = merge_patch(row.desired, patch)
    if len(msgspec.json.encode(desired)) > MAX_DESIRED:
        raise InvalidInputError(f"The desired state would be longer than {MAX_DESIRED} bytes.")
    if desired != row.desired or row.desired_version == 0:
        await device_control.replace_desired(work.session, row, desired)
        work.audit(
            "device.desired_changed", "device", device_id, version=row.desired_version, patch=patch
        )
        work.notify(bus.DEVICE_DOWN, str(device_id))
    return TwinView.of(row)
