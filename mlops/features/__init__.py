"""Features of a device's cycles: one definition, for training and for serving."""

from mlops.features.build import Features, History, compute
from mlops.features.spec import BASELINE, WINDOW, FeatureSpec

__all__ = ["BASELINE", "WINDOW", "FeatureSpec", "Features", "History", "compute"]
