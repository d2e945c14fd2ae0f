"""Predictions, as the API and automations ask for them."""

from mlops.inference.predictor import Predictor
from mlops.inference.result import ModelInfo, PredictionResult, PredictionType, PredictionValue

__all__ = ["ModelInfo", "PredictionResult", "PredictionType", "PredictionValue", "Predictor"]
