"""The HTTP, WebSocket and web interface."""
