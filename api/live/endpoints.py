"""WebSocket addresses, by the requirements."""

from fastapi import APIRouter, WebSocket

from api.live.connection import LiveConnection
from api.live.frames import Channel
from api.security.permissions import requires_to_subscribe

router = APIRouter(prefix="/ws")

DEVICE_DATA = "telemetry:read"
ALERTS = "alerts:read"
DASHBOARD = "devices:read"


@router.websocket("/device-data", dependencies=[requires_to_subscribe(DEVICE_DATA)])
async def device_data(websocket: WebSocket) -> None:
    """Measurements of the devices subscribed to, as they are stored."""
    services = websocket.app.state.services
    await LiveConnection(websocket, services, Channel.DEVICE_DATA, DEVICE_DATA).serve()


@router.websocket("/alerts", dependencies=[requires_to_subscribe(ALERTS)])
async def alerts(websocket: WebSocket) -> None:
    """Alarms of the tenant, as they are raised, acknowledged and cleared."""
    services = websocket.app.state.services
    await LiveConnection(websocket, services, Channel.ALERTS, ALERTS).serve()


@router.websocket("/dashboard", dependencies=[requires_to_subscribe(DASHBOARD)])
async def dashboard(websocket: WebSocket) -> None:
    """Everything that happens in the tenant: runs, alarms, presence of devices."""
    services = websocket.app.state.services
    await LiveConnection(websocket, services, Channel.DASHBOARD, DASHBOARD).serve()
