"""The whole configuration of one installation."""

from dataclasses import dataclass
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from core.settings.database import DatabaseSettings, Role, with_login
from core.settings.processes import (
    ApiSettings,
    BrokerSettings,
    IngestSettings,
    OutboundSettings,
)
from core.settings.secrets import Secrets
from core.settings.services import MlflowSettings, TemporalSettings, ValkeySettings


class HomeSettings(BaseSettings):
    """Where state lives.

    Attributes:
        home: The one folder with databases, artifacts, logs and secrets.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_")

    home: Path = Path(".iotlinker")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, with the addresses that follow from them."""

    home: Path
    secrets: Secrets
    database: DatabaseSettings
    valkey: ValkeySettings
    temporal: TemporalSettings
    mlflow: MlflowSettings
    api: ApiSettings
    broker: BrokerSettings
    ingest: IngestSettings
    outbound: OutboundSettings

    @property
    def admin_database_url(self) -> str:
        """Address for creating roles and databases."""
        return self.database.url or with_login(
            f"postgresql://127.0.0.1:{self.database.port}/{self.database.name}",
            "postgres",
            self.secrets.database_superuser,
        )

    def database_url(self, role: Role) -> str:
        """Address for one of the platform's roles."""
        return with_login(
            self.admin_database_url,
            f"iotlinker_{role}",
            getattr(self.secrets, f"database_{role}"),
            self.database.mlflow_name if role == "mlflow" else None,
        )

    @property
    def valkey_url(self) -> str:
        """Address of Valkey."""
        return self.valkey.url or f"redis://:{self.secrets.valkey}@127.0.0.1:{self.valkey.port}/0"

    @property
    def temporal_address(self) -> str:
        """`host:port` of the Temporal frontend."""
        return self.temporal.address or f"127.0.0.1:{self.temporal.port}"

    @property
    def temporal_ui_url(self) -> str:
        """Address of the Temporal UI that comes with the embedded server."""
        return f"http://127.0.0.1:{self.temporal.ui_port}"

    @property
    def mlflow_url(self) -> str:
        """Address of the MLflow server."""
        return self.mlflow.url or f"http://127.0.0.1:{self.mlflow.port}"

    @property
    def api_url(self) -> str:
        """Address at which clients reach the API and the web application."""
        return self.api.public_url or f"http://{self.api.host}:{self.api.port}"

    @property
    def mqtt_endpoint(self) -> str:
        """Address that devices are told."""
        broker = self.broker
        if broker.public_endpoint is None and broker.tls_port is not None:
            return f"mqtts://{broker.host}:{broker.tls_port}"
        return self.plain_mqtt_endpoint

    @property
    def plain_mqtt_endpoint(self) -> str:
        """Address for the platform's own clients, without TLS."""
        return self.broker.public_endpoint or f"mqtt://{self.broker.host}:{self.broker.port}"

    @property
    def intake_url(self) -> str:
        """Address of the broker that takes messages which did not come over MQTT."""
        own = f"http://127.0.0.1:{self.broker.metrics_port}"
        return (self.broker.intake_url or own).rstrip("/")

    @property
    def artifacts(self) -> Path:
        """Folder for data snapshots, checkpoints and MLflow artifacts."""
        return self.home / "artifacts"

    @property
    def imports(self) -> Path:
        """Folder for uploaded files of measurements."""
        return self.home / "imports"

    @property
    def logs(self) -> Path:
        """Folder for the processes' logs."""
        return self.home / "logs"


def load_settings(home: Path | None = None) -> Settings:
    """Read settings from the environment; generate what is secret on first use.

    Args:
        home: Overrides `IOTLINKER_HOME`.

    Raises:
        ConfigurationError: The secrets file is unsafe or damaged.
        pydantic.ValidationError: A variable has a value of the wrong form.
    """
    folder = (home or HomeSettings().home).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return Settings(
        home=folder,
        secrets=Secrets.load_or_create(folder / "secrets.json"),
        database=DatabaseSettings(),
        valkey=ValkeySettings(),
        temporal=TemporalSettings(),
        mlflow=MlflowSettings(),
        api=ApiSettings(),
        broker=BrokerSettings(),
        ingest=IngestSettings(),
        outbound=OutboundSettings(),
    )
