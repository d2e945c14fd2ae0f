"""PostgreSQL: one address, several roles on it."""

from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic_settings import BaseSettings, SettingsConfigDict

Role = Literal["owner", "api", "ingest", "worker", "mlflow"]


class DatabaseSettings(BaseSettings):
    """Where PostgreSQL is.

    Attributes:
        url: `postgresql://user:password@host:port/database` of a role that may create roles and
            databases; unset, the embedded server is started.
        port: Port of the embedded server on loopback.
        name: Database of the embedded server.
        pool_size: Connections per process and role.
        statement_timeout: Seconds after which a statement is cancelled.
    """

    model_config = SettingsConfigDict(env_prefix="IOTLINKER_DATABASE_")

    url: str | None = None
    port: int = 15432
    name: str = "iotlinker"
    mlflow_name: str = "iotlinker_mlflow"
    pool_size: int = 10
    statement_timeout: float = 30.0


def with_login(url: str, user: str, password: str, database: str | None = None) -> str:
    """Return `url` with another user, password and, if given, database."""
    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    port = f":{parts.port}" if parts.port else ""
    path = f"/{database}" if database else parts.path
    netloc = f"{quote(user)}:{quote(password, safe='')}@{host}{port}"
    return urlunsplit((parts.scheme, netloc, path, parts.query, ""))
