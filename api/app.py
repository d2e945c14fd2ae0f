"""Puts the application together."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api import problems
from api.alerts.endpoints import router as alerts
from api.analytics.endpoints import router as analytics
from api.audit.endpoints import router as audit
from api.auth.endpoints import router as auth
from api.devices.bulk_endpoints import router as bulk
from api.devices.command_endpoints import router as commands
from api.devices.credentials_endpoints import router as credentials
from api.devices.endpoints import router as devices
from api.devices.twin_endpoints import router as twins
from api.gateways.endpoints import router as gateways
from api.live.endpoints import router as live
from api.metrics import Metrics
from api.middleware import BodyLimit, Surroundings
from api.mqtt_auth.endpoints import router as mqtt_auth
from api.openapi import DESCRIPTION, describe, operation_id
from api.operations.endpoints import router as operations
from api.profiles.endpoints import router as profiles
from api.security.permissions import refuse_undeclared
from api.services import open_services
from api.telemetry.dead_letters_endpoints import router as dead_letters
from api.telemetry.endpoints import router as telemetry
from api.telemetry.fleet_endpoints import router as fleet_telemetry
from api.telemetry.imports_endpoints import router as imports
from api.telemetry.ingest_endpoints import router as ingest
from api.web import serve_web
from api.webhooks.endpoints import router as webhooks
from api.workflows.endpoints import router as workflows
from api.workflows.execution_endpoints import router as executions
from core.settings import Settings

BODY_LIMIT = 1024 * 1024
LARGER_BODIES = {
    "/api/v1/devices/bulk": 16 * 1024 * 1024,
    "/api/v1/telemetry": 16 * 1024 * 1024,
}
"""Bytes by path, where the default is too little: ten thousand devices or messages at once."""

ROUTERS = (
    auth,
    profiles,
    bulk,  # before devices, whose {device_id} would match "bulk"
    gateways,  # likewise, for "claim"
    devices,
    credentials,
    commands,
    twins,
    telemetry,
    fleet_telemetry,
    dead_letters,
    imports,
    ingest,
    workflows,
    executions,
    analytics,
    webhooks,
    alerts,
    audit,
    live,
    mqtt_auth,
    operations,
)


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its connections open with its lifespan.

    Raises:
        ConfigurationError: A route does not declare its permission.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_services(settings, metrics) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="IoTLinker",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,
    )
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    describe(app)
    refuse_undeclared(app.routes)
    serve_web(app)
    # The last one added is the outermost.
    files = {"/api/v1/telemetry/imports": settings.api.import_max_bytes}
    app.add_middleware(BodyLimit, default=BODY_LIMIT, larger=LARGER_BODIES | files)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.api.cors_origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "If-Match"],
        expose_headers=["ETag", "Retry-After"],
    )
    app.add_middleware(Surroundings, metrics=metrics)
    return app
