"""Every error is answered as a problem document (RFC 9457)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.security.throttle import TooManyRequestsError
from core.db import faults
from core.errors import FieldError, IoTLinkerError, NotAuthenticatedError, UnavailableError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 5
"""Seconds that a caller is asked to wait when a part is down."""

_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
}

logger = structlog.get_logger(__name__)


def problem(
    status: int,
    *,
    code: str,
    detail: str,
    title: str | None = None,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """Return one problem document.

    Args:
        status: HTTP status.
        code: Stable and machine-readable; `type` is made from it.
        detail: A sentence about this occurrence.
        title: A sentence about this kind of problem; the status's own phrase by default.
        errors: Where in the input it went wrong.
        headers: More headers.
        members: Extension members.
    """
    document: dict[str, Any] = {
        "type": f"urn:iotlinker:problem:{code}",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": _clean(detail),
        "code": code,
        **members,
    }
    if errors:
        document["errors"] = [
            {"pointer": _clean(e.pointer), "message": _clean(e.message)}
            | ({} if e.hint is None else {"hint": _clean(e.hint)})
            for e in errors
        ]
    return Response(
        msgspec.json.encode(document), status_code=status, media_type=MEDIA_TYPE, headers=headers
    )


def _clean(text: str) -> str:
    # A key of the request's body may hold a lone surrogate, which no answer can carry.
    return text.encode("utf-8", "replace").decode()


def from_error(error: IoTLinkerError) -> Response:
    """Return the problem document of one of the platform's own errors."""
    headers: dict[str, str] = {}
    if isinstance(error, TooManyRequestsError):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, UnavailableError):
        headers["Retry-After"] = str(RETRY_AFTER)
    elif isinstance(error, NotAuthenticatedError):
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return from_unexpected(error)
    return problem(
        error.status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        errors=error.errors,
        headers=headers,
    )


def from_unexpected(error: Exception) -> Response:
    """Return the problem document of anything else; the log has the rest under the same id."""
    translated = faults.translate(error)
    if translated is None and isinstance(error, RedisError):
        translated = UnavailableError("The cache cannot be reached.")
    if translated is not None:
        logger.warning("request.failed", code=translated.code, error=repr(error))
        return from_error(translated)
    occurrence = uuid4()
    logger.error("request.crashed", id=str(occurrence), exc_info=error)
    return problem(
        500,
        code="internal_error",
        detail="Something went wrong inside; the log has the details under this id.",
        id=str(occurrence),
    )


def pointer(parts: Sequence[int | str]) -> str:
    """Return an RFC 6901 JSON pointer."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def _field_error(fault: Mapping[str, Any]) -> FieldError:
    place, *path = fault["loc"]
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "json_invalid":
        at, why = path[0] if path else 0, fault["ctx"]["error"]
        return FieldError("", f"This is not JSON: {why} at character {at}.")
    expected = (fault.get("ctx") or {}).get("expected")
    hint = None if expected is None else f"One of: {expected}."
    if place == "body":
        return FieldError(pointer(path), message, hint)
    where = f"The {place} parameter {'.'.join(map(str, path))!r}"
    return FieldError("", f"{where}: {message}", hint)


async def _own(_request: Request, error: Exception) -> Response:
    assert isinstance(error, IoTLinkerError)
    return from_error(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem(
        422,
        code="invalid_input",
        title="Invalid input",
        detail="The request is malformed; `errors` says where.",
        errors=[_field_error(fault) for fault in error.errors()[:50]],
    )


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    return problem(
        error.status_code,
        code=_CODES.get(error.status_code, phrase.lower().replace(" ", "_")),
        detail=str(error.detail) if error.detail != phrase else f"{phrase}.",
        headers=error.headers,
    )


def install(app: FastAPI) -> None:
    """Answer every error of an application as a problem document."""
    app.add_exception_handler(IoTLinkerError, _own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
