"""The other servers the platform talks to; each is embedded unless an address is given."""

from pydantic_settings import BaseSettings, SettingsConfigDict


class ValkeySettings(BaseSettings):
    """Valkey or Redis.

    Attributes:
        url: `redis://…`; unset, the embedded server is started.
        port: Port of the embedded server on loopback.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_VALKEY_")

    url: str | None = None
    port: int = 16379


class TemporalSettings(BaseSettings):
    """The Temporal service.

    Attributes:
        address: `host:port`; unset, the embedded development server is started.
        namespace: Temporal namespace.
        api_key: For Temporal Cloud.
        tls: Use TLS; always on with an API key.
        port, ui_port: Ports of the embedded server on loopback.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_TEMPORAL_")

    address: str | None = None
    namespace: str = "default"
    api_key: str | None = None
    tls: bool = False
    port: int = 7233
    ui_port: int = 8233


class MlflowSettings(BaseSettings):
    """The MLflow tracking server and model registry.

    Attributes:
        url: `http://…`; unset, the embedded server is started.
        port: Port of the embedded server on loopback.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_MLFLOW_")

    url: str | None = None
    port: int = 15000
