"""A model of remaining useful life: XGBoost's own file format and a JSON file, nothing pickled."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from mlops.calibration import Calibration
from mlops.errors import ArtifactDamagedError
from mlops.features import FeatureSpec
from mlops.files import open_sealed, replace_atomically, seal, sha256_of

if TYPE_CHECKING:
    import xgboost as xgb

BOOSTER = "model.ubj"
METADATA = "metadata.json"


class DatasetInfo(BaseModel):
    """Where a model comes from."""

    path: str
    sha256: str
    rows: int
    devices: int
    started: datetime
    ended: datetime


class Metadata(BaseModel):
    """All that serving needs besides the trees.

    Attributes:
        training_id: The training that made it.
        failure_event: Name of the device event that ends a life.
        rul_cap: The model knows no more remaining cycles than this.
        trained_on, held_out: Devices.
        metrics: Figures on the held-out devices, see `mlops.training.evaluation`.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    training_id: UUID
    trained_at: datetime
    failure_event: str
    rul_cap: int
    rounds: int
    seed: int
    parameters: dict[str, Any]
    spec: FeatureSpec
    dataset: DatasetInfo
    trained_on: tuple[UUID, ...]
    held_out: tuple[UUID, ...]
    metrics: dict[str, float]
    calibration: Calibration


def load_booster(content: bytes) -> "xgb.Booster":
    """Read trees for serving: one thread, as many calls run side by side.

    Raises:
        ArtifactDamagedError: XGBoost does not accept the content.
    """
    import xgboost as xgb

    try:
        booster = xgb.Booster(model_file=bytearray(content))
    except xgb.core.XGBoostError as error:
        raise ArtifactDamagedError("the model file is not an XGBoost model") from error
    booster.set_param({"nthread": 1})
    return booster


def predict(booster: "xgb.Booster", matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return remaining cycles for each row, never below 0."""
    return np.maximum(booster.inplace_predict(matrix, validate_features=False), 0.0)


class RulModel:
    """Trees and metadata, ready to predict; safe for use by several threads."""

    def __init__(self, booster: "xgb.Booster", metadata: Metadata) -> None:
        self._booster = booster
        self.metadata = metadata

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return remaining cycles for each row of features."""
        return predict(self._booster, matrix)

    def contributions(self, row: NDArray[np.float32]) -> dict[str, float]:
        """Return how many cycles each feature moved one prediction (SHAP values)."""
        import xgboost as xgb

        names = self.metadata.spec.names
        data = xgb.DMatrix(row.reshape(1, -1), feature_names=names, nthread=1)
        values = self._booster.predict(data, pred_contribs=True)[0]
        return dict(zip(names, (float(value) for value in values[:-1]), strict=True))

    @classmethod
    def load(cls, folder: Path, sha256: str) -> Self:
        """Read a model after checking it against the digest of its manifest.

        Raises:
            ArtifactDamagedError: It is not what was registered, or of a format unknown here.
        """
        manifest = open_sealed(folder, sha256)
        files = manifest["files"]
        content = (folder / BOOSTER).read_bytes()
        # Once more on the bytes in hand: the file may have been exchanged since the check.
        if not isinstance(files, dict) or files[BOOSTER] != hashlib.sha256(content).hexdigest():
            raise ArtifactDamagedError(f"{folder / BOOSTER} changed while it was read")
        try:
            metadata = Metadata.model_validate_json((folder / METADATA).read_bytes())
        except ValidationError as error:
            raise ArtifactDamagedError(
                f"{folder / METADATA} has a format this release does not know; train a new model"
            ) from error
        return cls(load_booster(content), metadata)


def save_model(folder: Path, booster_file: Path, booster_sha256: str, metadata: Metadata) -> str:
    """Put a model together in `folder`; return the digest of its manifest.

    Raises:
        ArtifactDamagedError: The trees are not those that were trained.
    """
    content = booster_file.read_bytes()
    replace_atomically(folder / BOOSTER, lambda path: path.write_bytes(content))
    if sha256_of(folder / BOOSTER) != booster_sha256:
        raise ArtifactDamagedError(f"{booster_file} was changed after the training")
    text = metadata.model_dump_json(indent=1)
    replace_atomically(folder / METADATA, lambda path: path.write_text(text))
    return seal(folder, {"kind": "remaining-useful-life"})
