"""`/api/v1/mqtt/…`: hooks for EMQX (`auth`, `acl`) and mosquitto-go-auth (the other three).

Not for people: no token but a secret, no problem documents but what the brokers read. When the
database is down they answer 503, on which EMQX asks the next authenticator and denies in the end.
"""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from api.deps import ServicesDep
from api.mqtt_auth.requests import read
from api.security.permissions import broker_only

router = APIRouter(prefix="/api/v1/mqtt", tags=["devices"], include_in_schema=False)


def _verdict(*, allowed: bool) -> JSONResponse:
    """Answer mosquitto-go-auth, in its response modes `status` and `json`."""
    error = "" if allowed else "not allowed"
    return JSONResponse({"ok": allowed, "error": error}, status_code=200 if allowed else 403)


@router.post("/auth", dependencies=[broker_only])
async def auth(request: Request, services: ServicesDep) -> JSONResponse:
    """Tell EMQX whether a device may sign in."""
    admission = await services.gate.admit(await read(request))
    answer: dict[str, Any] = {
        "result": "allow" if admission.allowed else "deny",
        "is_superuser": admission.superuser,
    }
    if admission.expires_at is not None:
        answer["expire_at"] = int(admission.expires_at.timestamp())
    return JSONResponse(answer)


@router.post("/acl", dependencies=[broker_only])
async def acl(request: Request, services: ServicesDep) -> JSONResponse:
    """Tell EMQX whether a client may publish or subscribe to a topic."""
    allowed = await services.gate.allows(await read(request))
    return JSONResponse({"result": "allow" if allowed else "deny"})


@router.post("/getuser", dependencies=[broker_only])
async def getuser(request: Request, services: ServicesDep) -> JSONResponse:
    """Tell mosquitto-go-auth whether a device may sign in."""
    admission = await services.gate.admit(await read(request))
    return _verdict(allowed=admission.allowed)


@router.post("/superuser", dependencies=[broker_only])
async def superuser(request: Request, services: ServicesDep) -> JSONResponse:
    """Tell mosquitto-go-auth whether this is ingest itself."""
    question = await read(request)
    return _verdict(allowed=services.gate.is_ingest(question.username))


@router.post("/aclcheck", dependencies=[broker_only])
async def aclcheck(request: Request, services: ServicesDep) -> JSONResponse:
    """Tell mosquitto-go-auth whether a client may use a topic."""
    return _verdict(allowed=await services.gate.allows(await read(request)))
