"""The OpenAPI document and the page that shows it."""

import asyncio
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response

from api.problems import MEDIA_TYPE
from api.schemas import Problem
from api.security.permissions import (
    DEVICE_KEY_HEADER,
    DeviceOnly,
    Public,
    RequiresOrDevice,
    declarations,
    public,
)

TAGS = [
    {"name": "auth", "description": "Signing in and out; tokens."},
    {"name": "devices", "description": "Devices, profiles, provisioning, commands, twins."},
    {"name": "telemetry", "description": "Measurements."},
    {"name": "workflows", "description": "Automations, their versions and runs."},
    {"name": "analytics", "description": "Models, trainings, predictions."},
    {"name": "webhooks", "description": "Signed events to other people's servers."},
    {"name": "alerts", "description": "Alarms."},
    {"name": "audit", "description": "Who did what."},
    {"name": "operations", "description": "Health and metrics."},
]
DESCRIPTION = (
    "Every error is a problem document (RFC 9457). Sign in at `/api/v1/auth/login` and send "
    "`Authorization: Bearer <access_token>`. Live data comes over WebSockets: `/ws/device-data`, "
    "`/ws/alerts`, `/ws/dashboard`."
)
DOCS_CSP = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)
"""Swagger UI starts from a script within its page and sets styles on elements."""

_SWAGGER = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
"""Files of the page, which come from the package fastapi-swagger and so from this server."""

router = APIRouter(include_in_schema=False)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare problem answers of a route, or of all routes of a router."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


PROBLEMS = problems(400, 413, 422, 500, 503)
"""What any route may answer."""
GUARDED = problems(400, 401, 403, 413, 422, 500, 503)
"""What any route may answer that needs a permission."""


def operation_id(route: APIRoute) -> str:
    """Return a stable name of an operation: its domain and its function."""
    return f"{route.tags[0] if route.tags else 'api'}_{route.name}"


def describe(app: FastAPI) -> None:
    """Let an application describe itself, with problems and the bearer scheme."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=TAGS,
            )
            components = document.setdefault("components", {})
            components.setdefault("schemas", {})["Problem"] = _problem_schema()
            components["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "device_key": {"type": "apiKey", "in": "header", "name": DEVICE_KEY_HEADER},
            }
            _secure(app, document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = schema
    app.include_router(router)


def _problem_schema() -> dict[str, Any]:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    fields = schema.pop("$defs")["ProblemError"]
    schema["properties"]["errors"]["items"] = fields
    return schema


def _secure(app: FastAPI, document: dict[str, Any]) -> None:
    for methods, path, declaration in declarations(app.routes):
        for method in methods.lower().split(","):
            operation = document["paths"].get(path, {}).get(method)
            if operation is None or isinstance(declaration, Public | DeviceOnly):
                continue
            operation["security"] = [{"bearer": []}]
            if isinstance(declaration, RequiresOrDevice):
                operation["security"].append({"device_key": []})
            if permission := getattr(declaration, "permission", None):
                operation["x-permission"] = permission


@router.get("/openapi.json", dependencies=[public])
async def openapi_document(request: Request) -> JSONResponse:
    """Return the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs", dependencies=[public])
async def docs(request: Request) -> HTMLResponse:
    """Show the OpenAPI document as a page."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{request.app.title} API",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon-32x32.png",
    )
    page.headers["content-security-policy"] = DOCS_CSP
    return page


@router.get("/docs/{name}", dependencies=[public])
async def docs_file(name: str) -> Response:
    """Return one of the files of Swagger UI."""
    media_type = _SWAGGER.get(name)
    if media_type is None:
        raise HTTPException(404)
    content = await asyncio.to_thread(_swagger_file, name)
    return Response(
        content, media_type=media_type, headers={"cache-control": "public, max-age=86400"}
    )


@cache
def _swagger_file(name: str) -> bytes:
    return (resources.files("fastapi_swagger.resources") / name).read_bytes()
