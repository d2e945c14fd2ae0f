"""Valkey channels: notifications only. Losing one never loses data; the database is the record."""

from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as ValkeyConnectionError

from core.settings import Settings

TRIGGERS_CHANGED = "iotlinker:triggers-changed"
"""Payload: tenant id. Brokers reload the telemetry triggers."""

PROFILES_CHANGED = "iotlinker:profiles-changed"
"""Payload: tenant id. Brokers reload what profiles say about measurements."""

DEVICE_CHANGED = "iotlinker:device-changed"
"""Payload: device id. Brokers look its name, metadata, site and tags up again."""

OUTBOX = "iotlinker:outbox"
"""Payload: empty. The relay looks for trigger_outbox rows at once instead of at its next poll."""

DEVICE_DOWN = "iotlinker:device-down"
"""Payload: device id. The broker that holds its connection sends pending commands and twin."""

DEVICE_DISCONNECT = "iotlinker:device-disconnect"
"""Payload: device id. Its credentials changed; the broker drops the connection and forgets it."""

LISTENING = "iotlinker:listening"
"""Payload: device id. Somebody subscribed to its `telemetry`; brokers publish it from now on."""

BROKER_CLAIM = "iotlinker:broker-claim"
"""Payload: msgpack. A broker process takes clients over; the others let go of them and say so."""


def broker(broker_id: UUID) -> str:
    """Payload: msgpack. Answers for one broker process."""
    return f"iotlinker:broker:{broker_id}"


def telemetry(device_id: UUID | str) -> str:
    """Payload: JSON array of `{"device_id", "timestamp", "metrics", "quality"?}`, after commit.

    `quality` holds the scores that are not 100 and is left out when there are none.
    """
    return f"iotlinker:telemetry:{device_id}"


def command_answered(command_id: UUID | str) -> str:
    """Payload: empty. The response of this command is committed."""
    return f"iotlinker:command:{command_id}"


def dashboard(tenant_id: UUID | str) -> str:
    """Payload: JSON `{"type", …}` — run, alert and presence events of one tenant."""
    return f"iotlinker:dashboard:{tenant_id}"


def connect(settings: Settings) -> Redis:
    """Return a client; nothing is opened before the first use. Every call has a timeout."""
    return Redis.from_url(
        settings.valkey_url,
        socket_connect_timeout=5,
        socket_timeout=10,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), 3),
        retry_on_error=[ValkeyConnectionError],
    )
