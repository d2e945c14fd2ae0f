"""Errors of training and serving models."""

from core.errors import IoTLinkerError


class NotEnoughDataError(IoTLinkerError):
    """There is too little data to train on; trying again without more data cannot help."""

    code, status, title = "not_enough_data", 422, "Not enough data"


class ArtifactDamagedError(IoTLinkerError):
    """A stored file is missing or is not what was written."""

    code, status, title = "artifact_damaged", 500, "Artifact damaged"


class TrainingStoppedError(IoTLinkerError):
    """The training was asked to stop; its last checkpoint stays."""

    code, status, title = "training_stopped", 503, "Training stopped"
