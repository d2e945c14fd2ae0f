"""Errors that only the API knows."""

from core.errors import IoTLinkerError


class PreconditionFailedError(IoTLinkerError):
    """`If-Match` names another version than the one that is stored (RFC 9110, 13.1.1)."""

    code, status, title = "precondition_failed", 412, "Precondition failed"
