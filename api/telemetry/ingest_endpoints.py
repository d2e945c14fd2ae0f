"""Measurements over HTTP: `POST /api/v1/devices/{device_id}/telemetry` and its relatives."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.exceptions import HTTPException

from api.deps import ServicesDep, WorkFactory, client_address
from api.openapi import GUARDED, problems
from api.security.permissions import device_key, device_only, requires, requires_or_device
from api.telemetry import ingest
from api.telemetry.ingest_schemas import (
    ATTRIBUTES,
    ITEM,
    PAYLOAD,
    BulkOutcome,
    Committed,
    body,
)

router = APIRouter(tags=["telemetry"], responses=GUARDED)

_WRITE = "telemetry:write"
NDJSON = "application/x-ndjson"
AccessToken = Annotated[str, Path(min_length=1, max_length=255, pattern=r"^[^\x00/]*$")]


@router.post(
    "/api/v1/devices/{device_id}/telemetry",
    dependencies=[requires_or_device(_WRITE)],
    responses=problems(404),
    openapi_extra=body(PAYLOAD),
)
async def send_telemetry(services: ServicesDep, request: Request, device_id: UUID) -> Committed:
    """Store measurements of a device; sent by a user, or by the device with its own key."""
    payload = await _payload(services, request)
    key = device_key(request)
    if key is None:
        caller = await services.authenticate(request)
        await ingest.by_user(services, caller.tenant_id, device_id, payload)
    else:
        await ingest.by_device(services, key, device_id, "telemetry", payload)
    return Committed(stored=1)


@router.post(
    "/api/v1/telemetry",
    dependencies=[requires(_WRITE)],
    responses={207: {"model": BulkOutcome, "description": "Some were refused."}},
    openapi_extra=body(
        {"type": "array", "items": ITEM, "minItems": 1, "maxItems": ingest.MAX_ITEMS},
        **{"application_x-ndjson": {"type": "string", "description": "An item of it a line."}},
    ),
)
async def send_bulk(
    services: ServicesDep,
    request: Request,
    response: Response,
    fire_triggers: Annotated[
        bool, Query(description="Let triggers judge the measurements; false for back-fill.")
    ] = True,
) -> BulkOutcome:
    """Store messages of many devices; 200 when all are stored, 207 when some were refused."""
    work = WorkFactory(services, await services.authenticate(request), client_address(request))
    lines = request.headers.get("content-type", "").partition(";")[0].strip().lower() == NDJSON
    outcome = await ingest.bulk(
        services, work, await request.body(), lines=lines, fire_triggers=fire_triggers
    )
    if outcome.refused:
        response.status_code = 207
    return outcome


@router.post(
    "/api/v1/{access_token}/telemetry",
    dependencies=[device_only],
    openapi_extra=body(PAYLOAD),
)
async def send_telemetry_by_token(
    services: ServicesDep, request: Request, access_token: AccessToken
) -> Committed:
    """Store measurements of the device with this key, in the way of ThingsBoard's devices."""
    payload = await _payload(services, request)
    await ingest.by_device(services, access_token, None, "telemetry", payload)
    return Committed(stored=1)


@router.post(
    "/api/v1/{access_token}/attributes",
    dependencies=[device_only],
    openapi_extra=body(ATTRIBUTES),
)
async def send_attributes_by_token(
    services: ServicesDep, request: Request, access_token: AccessToken
) -> Committed:
    """Store reported attributes of the device with this key, as ThingsBoard's devices do."""
    payload = await _payload(services, request)
    await ingest.by_device(services, access_token, None, "attributes", payload)
    return Committed(stored=1)


async def _payload(services: ServicesDep, request: Request) -> bytes:
    """Return the body, which may be as long as over MQTT."""
    limit = services.settings.broker.max_payload
    payload = await request.body()
    if len(payload) > limit:
        raise HTTPException(413, f"The payload is longer than {limit} bytes.")
    return payload
