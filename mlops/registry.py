"""The MLflow tracking server and model registry.

Only training needs it: a model version is an MLflow run with parameters, figures and the model's
folder as artifacts. Two aliases say what a version is for: `champion` serves, `challenger` is the
newest that was not better.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from core.errors import UnavailableError
from core.settings import Settings
from mlops.model import Metadata

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"

TRAINING_TAG: Final = "iotlinker.training_id"
SHA256_TAG: Final = "iotlinker.sha256"
_ARTIFACT: Final = "model"

_ENVIRONMENT: Final = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # Temporal retries on top, and waits better
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def model_name(tenant_id: UUID, profile_name: str) -> str:
    """Return the name under which models of a tenant's profile are registered.

    Another tenant or another profile never has the same: what MLflow does not allow in names is
    replaced, and then a digest keeps the names apart.
    """
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", profile_name)
    if slug != profile_name:
        slug += f"-{hashlib.sha256(profile_name.encode()).hexdigest()[:8]}"
    return f"{tenant_id.hex}-{slug}"


@dataclass(frozen=True, slots=True)
class Version:
    """One registered version of a model; `sha256` is the digest of its folder's manifest."""

    name: str
    number: str
    run_id: str
    sha256: str


class Registry:
    """Blocking client; call it in a thread. Every request has a timeout.

    Methods raise `UnavailableError` when MLflow does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        # MLflow reads these from the environment only. What an operator has set stands.
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._error = MlflowException
        self._url = settings.mlflow_url
        self._client: MlflowClient = MlflowClient(tracking_uri=self._url, registry_uri=self._url)

    def register(self, name: str, folder: Path, sha256: str) -> Version:
        """Register the model in `folder` as a new version; the same training only once."""
        metadata = Metadata.model_validate_json((folder / "metadata.json").read_bytes())
        try:
            run = self._run(name, metadata)
            self._log(run, metadata, folder, sha256)
            return self._version(name, run, sha256)
        except (self._error, OSError) as error:
            raise self._unavailable(error) from error

    def champion(self, name: str) -> Version | None:
        """Return the version that serves, if there is one."""
        try:
            found = self._client.get_model_version_by_alias(name, CHAMPION)
        except self._error as error:
            if is_absent(error.error_code, str(error)):
                return None
            raise self._unavailable(error) from error
        return self._described(found)

    def set_alias(self, version: Version, alias: str) -> None:
        """Give a version an alias, taking it from the one that had it."""
        try:
            self._client.set_registered_model_alias(version.name, alias, version.number)
        except self._error as error:
            raise self._unavailable(error) from error

    def download(self, version: Version, folder: Path) -> Path:
        """Bring a version's files into `folder`; return where they are. They are not checked."""
        try:
            return Path(self._client.download_artifacts(version.run_id, _ARTIFACT, str(folder)))
        except (self._error, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"MLflow at {self._url} does not answer as it should: {error}")

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except self._error:  # another training was first
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def _run(self, name: str, metadata: Metadata) -> "Run":
        experiment = self._experiment(name)
        tag = str(metadata.training_id)
        found = self._client.search_runs(
            [experiment], f"tags.`{TRAINING_TAG}` = '{tag}'", max_results=1
        )
        return (
            found[0]
            if found
            else self._client.create_run(
                experiment, tags={TRAINING_TAG: tag}, run_name=f"training {tag[:8]}"
            )
        )

    def _log(self, run: "Run", metadata: Metadata, folder: Path, sha256: str) -> None:
        from mlflow.entities import Metric, Param, RunTag

        dataset = metadata.dataset
        tags = {
            SHA256_TAG: sha256,
            "iotlinker.dataset.path": dataset.path,
            "iotlinker.dataset.sha256": dataset.sha256,
            "iotlinker.dataset.rows": str(dataset.rows),
            "iotlinker.dataset.devices": str(dataset.devices),
            "iotlinker.dataset.started": dataset.started.isoformat(),
            "iotlinker.dataset.ended": dataset.ended.isoformat(),
        }
        parameters = {
            **metadata.parameters,
            "rounds": metadata.rounds,
            "seed": metadata.seed,
            "rul_cap": metadata.rul_cap,
            "failure_event": metadata.failure_event,
            "metrics": ",".join(metadata.spec.metrics)[:6000],  # MLflow's limit
        }
        now = int(metadata.trained_at.timestamp() * 1000)
        self._client.log_batch(
            run.info.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in metadata.metrics.items()],
            params=[Param(key, str(value)) for key, value in parameters.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        self._client.log_artifacts(run.info.run_id, str(folder), _ARTIFACT)
        self._client.set_terminated(run.info.run_id)

    def _version(self, name: str, run: "Run", sha256: str) -> Version:
        from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

        try:
            self._client.create_registered_model(name)
        except self._error as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        found = self._client.search_model_versions(f"run_id = '{run.info.run_id}'", max_results=1)
        return self._described(
            found[0]
            if found
            else self._client.create_model_version(
                name,
                source=f"{run.info.artifact_uri}/{_ARTIFACT}",
                run_id=run.info.run_id,
                tags={SHA256_TAG: sha256},
                await_creation_for=0,  # a store in SQL is done when it answers
            )
        )

    @staticmethod
    def _described(found: "ModelVersion") -> Version:
        return Version(
            name=found.name,
            number=str(found.version),
            run_id=found.run_id or "",
            sha256=found.tags.get(SHA256_TAG, ""),
        )


def is_absent(error_code: str, message: str) -> bool:
    """Tell whether MLflow's error says that a model or an alias does not exist."""
    return error_code == "RESOURCE_DOES_NOT_EXIST" or (
        error_code == "INVALID_PARAMETER_VALUE" and "alias" in message and "not found" in message
    )
