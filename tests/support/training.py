"""A tenant with worn-out engines, and the activities of a training on them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from temporalio.testing import ActivityEnvironment

from activities.training import TrainingActivities
from core.db.session import Database
from core.settings import Settings
from core.temporal.contracts import TrainingInput, TrainingResult
from core.temporal.training_contracts import (
    BoosterRef,
    DatasetRef,
    EvaluatedModel,
    FeaturesRef,
)
from mlops.history import import_history
from mlops.registry import model_name
from tests.support.engines import fleet
from tests.support.tenants import make_profile

PROFILE = "engine"


async def worn_fleet(
    settings: Settings, owner: Database, tenant_id: UUID, engines: int = 12
) -> UUID:
    """Import failed engines; return their profile."""
    profile_id = await make_profile(owner, tenant_id, PROFILE)
    await import_history(settings, tenant_id, profile_id, fleet(engines))
    return profile_id


def training_input(tenant_id: UUID, profile_id: UUID, **options: Any) -> TrainingInput:
    """Return a quick training."""
    options = {"rounds": 120, "rul_cap": 60, "holdout": 0.3, **options}
    return TrainingInput(
        tenant_id=tenant_id,
        training_id=uuid4(),
        profile_id=profile_id,
        model_name=model_name(tenant_id, PROFILE),
        **options,
    )


@dataclass(frozen=True, slots=True)
class Trained:
    """What the activities before the registry came to."""

    dataset: DatasetRef
    features: FeaturesRef
    booster: BoosterRef
    model: EvaluatedModel


async def train(family: TrainingActivities, training: TrainingInput) -> Trained:
    """Run everything before the registry."""
    run = ActivityEnvironment().run
    dataset = await run(family.snapshot, training)
    features = await run(family.features, training, dataset)
    booster = await run(family.train, training, features)
    model = await run(family.evaluate, training, dataset, features, booster)
    return Trained(dataset, features, booster, model)


async def release(
    family: TrainingActivities, training: TrainingInput, trained: Trained
) -> TrainingResult:
    """Register the model and let it meet the champion."""
    run = ActivityEnvironment().run
    registered = await run(family.register, training, trained.model)
    return await run(family.promote, training, trained.dataset, trained.model, registered)
