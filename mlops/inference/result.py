"""What a prediction answers: the shape of `POST /api/v1/analytics/predict`."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

PredictionType = Literal["failure", "anomaly", "trend"]


class PredictionValue(BaseModel):
    """The answer; docs/models.md defines each figure for each type.

    Attributes:
        probability: Of the event within the horizon, 0 to 1.
        confidence: How far such answers are to be trusted, 0 to 1.
        time_to_event: Hours until the event is expected; None when none is.
        recommended_actions: From the profile's rules only.
    """

    type: PredictionType
    probability: float = Field(ge=0, le=1)
    confidence: float = Field(ge=0, le=1)
    time_to_event: float | None = None
    recommended_actions: list[str] = Field(default_factory=list)


class ModelInfo(BaseModel):
    """What answered."""

    version: str
    last_trained: datetime
    accuracy: float


class PredictionResult(BaseModel):
    """A prediction for one device, with what it rests on in `details`."""

    device_id: UUID
    prediction: PredictionValue
    model_info: ModelInfo
    details: dict[str, Any] = Field(default_factory=dict)
