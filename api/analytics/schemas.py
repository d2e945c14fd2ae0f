"""Forms and answers of analytics."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AliasChoices, Field

from api.profiles.schemas import ProfileName
from api.schemas import Form, Name, Pagination, View
from mlops.inference import ModelInfo, PredictionType, PredictionValue

TrainingStatus = Literal["pending", "running", "completed", "failed", "cancelled"]


class PredictForm(Form):
    """Asks a model about one device.

    Attributes:
        horizon: Hours ahead.
        confidence_threshold: Below it no action is recommended.
    """

    device_id: UUID
    prediction_type: PredictionType
    horizon: Annotated[float | None, Field(gt=0, le=87_600, allow_inf_nan=False)] = None
    confidence_threshold: Annotated[float | None, Field(ge=0, le=1)] = None


class PredictView(View):
    """What the model answered, and in `details` what it rests on."""

    device_id: UUID
    prediction: PredictionValue
    model_info: ModelInfo
    details: dict[str, Any]


class StoredPrediction(View):
    """A prediction that was made."""

    id: UUID
    device_id: UUID
    time: datetime
    prediction_type: str
    probability: float
    confidence: float
    time_to_event: float | None
    details: dict[str, Any]
    # Pydantic keeps `model_` for itself.
    name: str = Field(validation_alias=AliasChoices("model_name"), serialization_alias="model")
    version: str = Field(
        validation_alias=AliasChoices("model_version"), serialization_alias="version"
    )


class PredictionList(View):
    """A page of predictions."""

    predictions: list[StoredPrediction]
    pagination: Pagination


class TrainingForm(Form):
    """Asks for a model of one device type.

    Attributes:
        failure_event: Name of the device event that ends a life.
        holdout: Share of devices kept for evaluation.
        rul_cap: The model learns no more remaining cycles than this.
        rounds: Trees.
    """

    device_type: ProfileName
    failure_event: Name = "failure"
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2
    rul_cap: Annotated[int, Field(ge=1, le=100_000)] = 125
    rounds: Annotated[int, Field(ge=1, le=5000)] = 600
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 7


class TrainingStarted(View):
    """A training that was asked for."""

    training_id: UUID
    status: TrainingStatus


class TrainingProgressView(View):
    """How far a training is; `fraction` from 0 to 1."""

    stage: str
    fraction: float
    detail: str


class TrainingResultView(View):
    """What a training came to."""

    version: str
    promoted: bool
    metrics: dict[str, float]
    champion_metrics: dict[str, float] | None


class TrainingView(View):
    """A training."""

    training_id: UUID
    status: TrainingStatus
    started_at: datetime | None = None
    completed_at: datetime | None = None
    progress: TrainingProgressView | None = None
    result: TrainingResultView | None = None
    error: str | None = None


class ChampionView(View):
    """The model that serves one device type."""

    device_type: str
    version: str
    trained_at: datetime
    training_id: UUID
    failure_event: str
    rul_cap: int
    metrics: dict[str, float]


class ChampionList(View):
    """The models that serve, by device type; types without one are left out."""

    models: list[ChampionView]
