"""Our own processes: API, broker, outbound calls."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
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
        public_endpoint: `mqtt://…` or `mqtts://…` that devices are told; unset, host and port, of
            TLS where it is on.
        tls_port: Where it listens with TLS; unset, it does not.
        tls_certificate_file, tls_key_file: PEM of the certificate with its chain, and its key.
            Renewed files are taken over without a restart.
        tls_client_ca_file: PEM of the authorities that sign devices' certificates, or of these
            themselves; unset, none is asked for.
        websocket_port, websocket_tls_port: Where it listens for MQTT over WebSocket, plain and
            with TLS; unset, it does not.
        websocket_origins: Origins whose pages may connect, beside the host's own, separated by
            commas; `*` is any.
        processes: Broker processes on this machine, which share the ports for devices.
        metrics_port: Port on loopback of its Prometheus endpoint, its health check, and the intake
            of messages that come over HTTP.
        intake_url: `http://…` of the metrics port of the broker that takes messages from the API
            and from imports; unset, this machine's.
        max_connections: Connections accepted by one process.
        address_connections, address_connects: Connections of one address to one process, and new
            ones a second; 0 is no limit.
        trusted_networks: Networks, as CIDR separated by commas, whose addresses are not limited:
            load balancers, and routers with many devices behind them.
        tenant_connections: Connections of a tenant to one process; 0 is no limit, here and below.
        device_messages_per_second, device_bytes_per_second: What a device may send for long.
        tenant_messages_per_second, tenant_bytes_per_second: The same of all devices of a tenant,
            to one process.
        over_limit_seconds: After how long over its own limit a device is disconnected.
        max_payload: Largest accepted MQTT payload in bytes.
        flushers: Concurrent COPY transactions.
        high_water, low_water: Messages waiting for the database at which reading from sockets
            stops and resumes.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_BROKER_")

    host: str = "127.0.0.1"
    port: int = 1883
    public_endpoint: str | None = None
    tls_port: int | None = None
    tls_certificate_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    websocket_port: int | None = None
    websocket_tls_port: int | None = None
    websocket_origins: Annotated[list[str], NoDecode] = []
    processes: int = 1
    metrics_port: int = 9101
    intake_url: str | None = None
    max_connections: int = 15_000
    address_connections: int = 0
    address_connects: float = 500
    trusted_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = [
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
    ]
    tenant_connections: int = 0
    device_messages_per_second: float = 0
    device_bytes_per_second: float = 0
    tenant_messages_per_second: float = 0
    tenant_bytes_per_second: float = 0
    over_limit_seconds: float = 300
    max_payload: int = 256 * 1024
    flushers: int = 2
    high_water: int = 100_000
    low_water: int = 25_000

    def metrics_port_of(self, number: int) -> int:
        """Return the metrics port of one of the processes, counted from 0."""
        return self.metrics_port + 10 * number

    @field_validator("websocket_origins", "trusted_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _files_for_tls(self) -> Self:
        if self.tls_port is None and self.websocket_tls_port is None:
            return self
        if self.tls_certificate_file is None or self.tls_key_file is None:
            raise ValueError(
                "TLS needs IOTLINKER_BROKER_TLS_CERTIFICATE_FILE and IOTLINKER_BROKER_TLS_KEY_FILE"
            )
        return self


class IngestSettings(BaseSettings):
    """Ingest from an MQTT broker that is not ours.

    Attributes:
        mqtt: `mqtt://host[:port]` or `mqtts://…` of the broker.
        username, password: How ingest signs in there.
        ca_file: Certificates that its certificate is checked by; unset, the system's.
        certificate_file, key_file: Client certificate and its key, in PEM.
        protocol: MQTT version; `auto` tries 5 and falls back to 3.1.1.
        group: Name of the shared subscription and start of the client ids.
        shared: Share the messages among processes by `$share`. Without, for brokers that do not
            know it, one process consumes and the others stand by.
        shards: Among how many processes the evaluation of triggers is divided.
        settle: Seconds after connecting for which messages wait before triggers judge them, those
            that come again first. For brokers that repeat what was not acknowledged after newer
            messages: then a little more than they wait before repeating (NATS: `ack_wait`).
        receive_maximum: Messages under way that are not acknowledged (MQTT 5).
        session_expiry: Seconds that the broker keeps messages while no ingest runs (MQTT 5).
        offline_after: Seconds without a message after which a device counts as offline.
        max_devices: Devices that one process remembers.
        metrics_port: Port on loopback of its Prometheus endpoint and health check.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_INGEST_")

    mqtt: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]{1,40}$")] = "iotlinker"
    shared: bool = True
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    settle: Annotated[float, Field(ge=0, le=600)] = 0.0
    receive_maximum: Annotated[int, Field(ge=1, le=65_535)] = 5_000
    session_expiry: Annotated[int, Field(ge=60, le=4_294_967_294)] = 7 * 86_400
    offline_after: Annotated[float, Field(gt=0)] = 300.0
    max_devices: Annotated[int, Field(ge=10_000)] = 200_000
    metrics_port: int = 9102


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
