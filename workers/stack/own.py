"""The platform's own processes, each an `iotlinker` command of the same installation."""

import sys

from core.settings import Settings
from core.temporal.names import TaskQueue
from workers.heartbeat import check, heartbeat_file
from workers.stack.service import Port, Service, http_probe


def _command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "workers.cli", *arguments)


def _environment(settings: Settings) -> dict[str, str]:
    return {"IOTLINKER_HOME": str(settings.home), "PYTHONUNBUFFERED": "1"}


def _reachable(host: str) -> str:
    """Return the address to probe for a server bound to `host`."""
    return "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host  # noqa: S104  (compared only)


def api(settings: Settings) -> Service:
    """Describe the HTTP API."""
    host, port = settings.api.host, settings.api.port
    return Service(
        name="api",
        command=_command("api"),
        ports=(Port(port, "IOTLINKER_API_PORT", host),),
        environment=_environment(settings),
        probe=http_probe(f"http://{_reachable(host)}:{port}/healthz"),
        needs=("schema", "valkey"),
    )


def brokers(settings: Settings) -> tuple[Service, ...]:
    """Describe the MQTT broker: as many processes as the settings say, at the same ports."""
    ports = tuple(
        Port(number, f"IOTLINKER_BROKER_{name}", settings.broker.host)
        for name, number in (
            ("PORT", settings.broker.port),
            ("TLS_PORT", settings.broker.tls_port),
            ("WEBSOCKET_PORT", settings.broker.websocket_port),
            ("WEBSOCKET_TLS_PORT", settings.broker.websocket_tls_port),
        )
        if number is not None
    )
    return tuple(
        _broker(settings, number, ports if number == 0 else ())
        for number in range(settings.broker.processes)
    )


def _broker(settings: Settings, number: int, shared: tuple[Port, ...]) -> Service:
    metrics = settings.broker.metrics_port_of(number)
    return Service(
        name="broker" if number == 0 else f"broker-{number + 1}",
        command=_command("broker"),
        ports=(*shared, Port(metrics, "IOTLINKER_BROKER_METRICS_PORT")),
        environment=_environment(settings) | {"IOTLINKER_BROKER_METRICS_PORT": str(metrics)},
        probe=http_probe(f"http://127.0.0.1:{metrics}/healthz"),
        needs=("schema", "valkey"),
    )


def worker(settings: Settings, queue: TaskQueue) -> Service:
    """Describe the worker process of one task queue."""
    file = heartbeat_file(settings, queue)

    async def probe() -> None:
        check(file)

    return Service(
        name=f"worker-{queue}",
        command=_command("worker", queue),
        environment=_environment(settings),
        prepare=lambda: file.unlink(missing_ok=True),
        probe=probe,
        needs=("schema", "valkey", "temporal"),
        stop_timeout=30.0,
    )
