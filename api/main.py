"""The API process."""

import uvicorn

from api.app import create_app
from core.settings import Settings

_DRAIN = 10  # seconds that requests under way have to finish
_MAX_MESSAGE = 64 * 1024  # bytes of one WebSocket message from a client


def server(settings: Settings) -> uvicorn.Server:
    """Return the HTTP and WebSocket server; run the loop with uvloop where it is there."""
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.api.host,
            port=settings.api.port,
            log_config=None,  # `core.logging` has set logging up
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN,
            # The other implementation is deprecated by its own library.
            ws="websockets-sansio",
            ws_max_size=_MAX_MESSAGE,
            # Compressing many small messages costs more time than it saves.
            ws_per_message_deflate=False,
        )
    )


async def run(settings: Settings) -> None:
    """Serve until the process is told to stop."""
    await server(settings).serve()
