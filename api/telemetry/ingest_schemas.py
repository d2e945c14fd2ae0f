"""Measurements that come over HTTP."""

from typing import Any

from pydantic import Field

from api.schemas import View

PAYLOAD: dict[str, Any] = {
    "anyOf": [
        {"type": "object"},
        {"type": "array", "items": {"type": "object"}, "minItems": 1},
    ],
    "description": "Telemetry in any form that MQTT takes: an object of metrics, "
    '`{"ts": …, "values": {…}}`, or a list of either.',
    "example": {"ts": "2025-03-01T10:00:00Z", "values": {"temperature": 21.5}},
}
ATTRIBUTES: dict[str, Any] = {
    "type": "object",
    "description": "Reported attributes; null removes a member.",
    "example": {"firmware": "1.4.2"},
}
ITEM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "device_id": {"type": "string", "format": "uuid"},
        "device": {"type": "string", "description": "The device's name."},
        "external_id": {"type": "string", "description": "`external_id` of its metadata."},
        "telemetry": PAYLOAD,
    },
    "required": ["telemetry"],
    "additionalProperties": False,
    "description": "One of `device_id`, `device` and `external_id` names the device.",
}


def body(schema: dict[str, Any], **others: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that the endpoint reads by itself."""
    content = {"application/json": {"schema": schema}} | {
        media_type.replace("_", "/", 1): {"schema": other} for media_type, other in others.items()
    }
    return {"requestBody": {"required": True, "content": content}}


class Committed(View):
    """Everything in the request is stored, and what it sets off will happen."""

    stored: int = Field(description="Messages.")


class RefusedItem(View):
    """A message of a bulk that was not stored as telemetry.

    Attributes:
        index: Its place in the list, or its line, from 0.
        code: What kind of fault; that of a dead letter if it became one.
        pointer: JSON pointer into the list.
    """

    index: int
    code: str
    pointer: str
    message: str


class BulkOutcome(View):
    """What became of a bulk; everything that is not in `refused` is stored."""

    stored: int = Field(description="Messages.")
    refused: list[RefusedItem]
