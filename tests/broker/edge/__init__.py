"""The edge of the broker: TLS, WebSocket, limits, several processes."""
