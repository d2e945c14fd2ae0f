"""Prometheus metrics of the API process."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Counters of one application; a registry of its own, so that two can live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "iotlinker_http_requests",
            "Requests by route template",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "iotlinker_http_request_seconds",
            "Time until the whole answer was sent",
            ("method", "route"),
            registry=self._registry,
        )
        self.live_connections = Gauge(
            "iotlinker_websocket_connections",
            "Open WebSocket connections",
            registry=self._registry,
        )
        self.live_sent = Counter(
            "iotlinker_websocket_messages",
            "Messages handed to WebSocket clients",
            registry=self._registry,
        )
        self.live_dropped = Counter(
            "iotlinker_websocket_dropped",
            "Messages that slow WebSocket clients lost",
            registry=self._registry,
        )

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        if method not in _METHODS:  # a client may invent as many as it likes
            method = "OTHER"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)
