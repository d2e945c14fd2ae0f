"""Predictions, as the API and automations ask for them."""

from mlops.inference.champions import Champion
from mlops.inference.predictor import Predictor
from mlops.inference.result import ModelInfo, PredictionResult, PredictionType, PredictionValue

__all__ = [
    "Champion",
    "ModelInfo",
    "PredictionResult",
    "PredictionType",
    "PredictionValue",
    "Predictor",
]
