"""Errors that people see: a stable code, a sentence, and where in the input it went wrong."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault in one place of the input.

    Attributes:
        pointer: RFC 6901 JSON pointer to the offending value, "" for the whole document.
        message: A sentence that says what is wrong.
        hint: What would mend it, when that is known.
    """

    pointer: str
    message: str
    hint: str | None = None


class IoTLinkerError(Exception):
    """Base of every error this platform raises on purpose.

    Attributes:
        code: Stable, machine-readable, in snake case; part of the API's contract.
        status: The HTTP status that the API answers with.
    """

    code = "internal_error"
    status = 500
    title = "Internal error"

    def __init__(self, detail: str, *, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors


class InvalidInputError(IoTLinkerError):
    """The request or definition is malformed; `errors` says where."""

    code, status, title = "invalid_input", 422, "Invalid input"


class NotAuthenticatedError(IoTLinkerError):
    """No valid credential was given."""

    code, status, title = "not_authenticated", 401, "Not authenticated"


class PermissionDeniedError(IoTLinkerError):
    """The caller is known and may not do this."""

    code, status, title = "permission_denied", 403, "Permission denied"


class NotFoundError(IoTLinkerError):
    """The thing does not exist, or not for this tenant."""

    code, status, title = "not_found", 404, "Not found"


class ConflictError(IoTLinkerError):
    """The change contradicts what is stored now."""

    code, status, title = "conflict", 409, "Conflict"


class UnavailableError(IoTLinkerError):
    """A part that this needs is down; trying again later can help."""

    code, status, title = "unavailable", 503, "Temporarily unavailable"


class ConfigurationError(IoTLinkerError):
    """The settings or the machine do not allow the platform to start."""

    code, status, title = "configuration", 500, "Configuration error"
