"""What the activities of a model training hand to each other: references, never the data."""

from uuid import UUID

from pydantic import AwareDatetime, Field

from core.temporal.contracts import Contract


class ArtifactRef(Contract):
    """A folder under the artifacts folder.

    Attributes:
        path: Relative to the artifacts folder, with forward slashes.
        sha256: Hex digest of the folder's manifest, which holds the digests of its files.
    """

    path: str
    sha256: str


class DatasetRef(ArtifactRef):
    """A frozen copy of the telemetry that a training reads.

    Attributes:
        rows: Messages in it.
        devices: Devices in it, each with at least one failure.
        lives: Stretches that end in a failure; a repaired device has several.
        started, ended: Times of the oldest and the newest message.
    """

    rows: int
    devices: int
    lives: int
    started: AwareDatetime
    ended: AwareDatetime


class FeaturesRef(ArtifactRef):
    """The training matrix.

    Attributes:
        rows: Cycles in it.
        columns: Features of a cycle.
        metrics: Metrics they are made of; constant ones were dropped.
        trained_on, held_out: Devices for fitting and for evaluation; no device is in both.
    """

    rows: int
    columns: int
    metrics: tuple[str, ...]
    trained_on: tuple[UUID, ...]
    held_out: tuple[UUID, ...]


class BoosterRef(Contract):
    """A trained ensemble: one file under the artifacts folder, its digest, its rounds."""

    path: str
    sha256: str
    rounds: int
    resumed_from: int = 0


class EvaluatedModel(ArtifactRef):
    """A model with its metadata and its figures on the held-out devices."""

    metrics: dict[str, float] = Field(default_factory=dict)


class RegisteredModel(Contract):
    """A version in the MLflow registry, and the MLflow run that made it."""

    name: str
    version: str
    run_id: str


class TrainingProgress(Contract):
    """Answer of the query `progress`.

    Attributes:
        stage: snapshot, features, train, evaluate, register, promote, or done.
        fraction: Share of the work that is done, 0 to 1.
        detail: A sentence for people.
    """

    stage: str
    fraction: float
    detail: str
