"""The training family."""

from activities.training.family import TrainingActivities

__all__ = ["TrainingActivities"]
