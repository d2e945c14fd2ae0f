"""`/healthz`, `/readyz`, `/metrics`."""

from typing import Any

from fastapi import APIRouter, Response

from api.deps import ServicesDep
from api.openapi import problems
from api.operations import readiness
from api.problems import RETRY_AFTER, problem
from api.security.permissions import public

router = APIRouter(tags=["operations"])


@router.get("/healthz", dependencies=[public])
async def healthz() -> dict[str, str]:
    """Tell that this process answers."""
    return {"status": "ok"}


@router.get("/readyz", dependencies=[public], response_model=None, responses=problems(503))
async def readyz(services: ServicesDep) -> dict[str, Any] | Response:
    """Tell whether every part that is needed answers, and name those that do not."""
    parts = await readiness.check(services)
    down = sorted(name for name, part in parts.items() if part.needed and part.error)
    states = {
        name: {"up": part.error is None, "needed": part.needed}
        | ({"error": part.error} if part.error else {})
        for name, part in parts.items()
    }
    if down:
        return problem(
            503,
            code="not_ready",
            title="Not ready",
            detail=f"Down: {', '.join(down)}.",
            headers={"Retry-After": str(RETRY_AFTER)},
            down=down,
            parts=states,
        )
    return {"status": "ready", "parts": states}


@router.get("/metrics", dependencies=[public], include_in_schema=False)
async def metrics(services: ServicesDep) -> Response:
    """Return this process's metrics for Prometheus."""
    return Response(services.metrics.render(), media_type="text/plain; version=0.0.4")
