"""MQTT topics of the device API, the one place that spells them."""

from uuid import UUID

PREFIX = "v1/devices/"


def telemetry(device_id: UUID | str) -> str:
    """Up: measurements."""
    return f"{PREFIX}{device_id}/telemetry"


def attributes(device_id: UUID | str) -> str:
    """Up: the reported state of the twin."""
    return f"{PREFIX}{device_id}/attributes"


def desired(device_id: UUID | str) -> str:
    """Down, retained: the desired state of the twin."""
    return f"{PREFIX}{device_id}/attributes/desired"


def events(device_id: UUID | str) -> str:
    """Up: named events."""
    return f"{PREFIX}{device_id}/events"


def command(device_id: UUID | str, name: str) -> str:
    """Down: one command; the payload carries its id as `id`."""
    return f"{PREFIX}{device_id}/commands/{name}"


def command_response(device_id: UUID | str, name: str) -> str:
    """Up: the answer to one command, repeating its `id`."""
    return f"{PREFIX}{device_id}/commands/{name}/response"
