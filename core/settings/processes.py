"""Our own processes: API, broker, outbound calls."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class ApiSettings(BaseSettings):
    """The HTTP API.

    Attributes:
        host, port: Where it listens.
        public_url: How clients reach it; unset, host and port.
        access_token_seconds, refresh_token_seconds: Lifetimes of tokens.
        cors_origins: Origins that browsers may call from; none by default.
        import_max_bytes: Largest file of measurements that is taken.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_API_")

    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str | None = None
    access_token_seconds: int = 900
    refresh_token_seconds: int = 14 * 24 * 3600
    cors_origins: list[str] = []
    import_max_bytes: int = 1024 * 1024 * 1024


class BrokerSettings(BaseSettings):
    """The MQTT broker and ingest.

    Attributes:
        host, port: Where it listens.
        public_endpoint: `mqtt://…` that devices are told; unset, host and port.
        metrics_port: Port on loopback of its Prometheus endpoint, its health check, and the intake
            of messages that come over HTTP.
        intake_url: `http://…` of the metrics port of the broker that takes messages from the API
            and from imports; unset, this machine's.
        max_connections: Connections accepted by one process.
        max_payload: Largest accepted MQTT payload in bytes.
        flushers: Concurrent COPY transactions.
        high_water, low_water: Messages waiting for the database at which reading from sockets
            stops and resumes.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_BROKER_")

    host: str = "127.0.0.1"
    port: int = 1883
    public_endpoint: str | None = None
    metrics_port: int = 9101
    intake_url: str | None = None
    max_connections: int = 15_000
    max_payload: int = 256 * 1024
    flushers: int = 2
    high_water: int = 100_000
    low_water: int = 25_000


class OutboundSettings(BaseSettings):
    """Calls that leave the platform: connectors and webhooks.

    Attributes:
        allow_networks: Private networks that outbound calls may reach, as CIDR, separated by
            commas. Every private, loopback and link-local address is refused otherwise.
        timeout: Seconds for one call.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_OUTBOUND_")

    allow_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = []
    timeout: float = 15.0

    @field_validator("allow_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value
