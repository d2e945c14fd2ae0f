"""Secrets, generated on first start into one file that only its owner can read."""

import base64
import fcntl
import json
import os
import secrets as random
import tempfile
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import ConfigurationError


def _token() -> str:
    return random.token_urlsafe(32)


def _aes_key() -> str:
    return base64.b64encode(random.token_bytes(32)).decode()


def _ed25519_pem() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


_LATER: Final = ("mqtt_auth",)
"""Secrets that came with a later version: generated where an older one's file lacks them."""


class Secrets(BaseModel):
    """Everything that must not be guessed.

    Attributes:
        database_superuser: Password of the embedded PostgreSQL's superuser.
        database_owner, database_api, database_ingest, database_worker, database_mlflow:
            Passwords of the platform's own PostgreSQL roles.
        valkey: Password of the embedded Valkey.
        signing_key: Ed25519 private key in PEM; signs access and refresh tokens.
        payload_key: 32 bytes in base64; encrypts Temporal payloads (AES-256-GCM).
        vault_key: 32 bytes in base64; encrypts secrets stored in the database (AES-256-GCM).
        mqtt_auth: What another MQTT broker proves itself with when it asks about devices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_superuser: str
    database_owner: str
    database_api: str
    database_ingest: str
    database_worker: str
    database_mlflow: str
    valkey: str
    signing_key: str
    payload_key: str
    vault_key: str
    mqtt_auth: str

    def __repr__(self) -> str:
        """Name the type only: a secret must not reach a log through a repr."""
        return "Secrets(…)"

    __str__ = __repr__

    @classmethod
    def generate(cls) -> Self:
        """Make a fresh set from the operating system's random source."""
        return cls(
            database_superuser=_token(),
            database_owner=_token(),
            database_api=_token(),
            database_ingest=_token(),
            database_worker=_token(),
            database_mlflow=_token(),
            valkey=_token(),
            signing_key=_ed25519_pem(),
            payload_key=_aes_key(),
            vault_key=_aes_key(),
            mqtt_auth=_token(),
        )

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Read the secrets at `path`, or generate and store them there with mode 0600.

        Raises:
            ConfigurationError: The file is readable by others, or is not what was written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            fresh = cls.generate()
            # A link onto the final name is atomic and fails when another process was first.
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".secrets-")
            with os.fdopen(handle, "w") as file:
                json.dump(fresh.model_dump(), file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass  # the other process's secrets stand, and are read below
            finally:
                Path(temporary).unlink()
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path} is readable by others; run: chmod 600 {path}")
        _complete(path)
        try:
            return cls.model_validate_json(path.read_text())
        except ValidationError as error:
            fields = ", ".join(str(e["loc"][0]) for e in error.errors() if e["loc"]) or "content"
            raise ConfigurationError(
                f"{path} is damaged ({fields}); restore it from a backup"
            ) from None


def _complete(path: Path) -> None:
    """Add what a file of an older version lacks; one that is damaged otherwise is left alone."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # of several processes that start at once, one does it
        try:
            known = json.loads(path.read_text())
        except ValueError:
            return
        if not isinstance(known, dict) or Secrets.model_fields.keys() - known != set(_LATER):
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".secrets-")
        with os.fdopen(handle, "w") as fresh:
            json.dump(known | {name: _token() for name in _LATER}, fresh, indent=2)
            fresh.flush()
            os.fsync(fresh.fileno())
        Path(temporary).replace(path)
