"""A tenant with a champion and a device in service."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import UUID

import pytest
from redis.asyncio import Redis

from activities.training import TrainingActivities
from core.db.session import Database
from core.db.tables import DeviceProfile
from core.settings import Settings
from core.settings.services import MlflowSettings
from core.temporal.names import stable_uuid
from mlops.history import HistoricalDevice, import_history
from mlops.inference import Predictor
from tests.support.durable import opened_resources
from tests.support.engines import METRICS, wearing
from tests.support.servers import free_port
from tests.support.training import release, train, training_input, worn_fleet

PROFILE_SETTINGS = {
    "prediction": {
        "cycle_hours": 2.0,
        "horizon_hours": 40,
        "recommended_actions": [
            {"when_below_hours": 200, "action": "Plan an overhaul"},
            {"when_below_hours": 60, "action": "Stop the engine"},
        ],
    },
    "metrics": {"heat": {"unit": "K", "range": [0, 560]}},
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """A tenant whose profile has a champion, if it was trained.

    Attributes:
        family: Activities to train again with.
    """

    settings: Settings
    database: Database
    tenant_id: UUID
    profile_id: UUID
    family: TrainingActivities

    async def train(self, rounds: int = 200) -> str:
        """Train and promote; return the version."""
        training = training_input(self.tenant_id, self.profile_id, rounds=rounds)
        result = await release(self.family, training, await train(self.family, training))
        return result.model_version

    async def device(self, left: int, *, seed: int = 700, cycles: int | None = None) -> UUID:
        """Return a device with `left` cycles to go, or one with just `cycles` measurements."""
        life = wearing(seed, 150)
        shown = life[: 150 - left] if cycles is None else life[:cycles]
        name = f"engine-{seed}-{left}-{cycles}"
        await import_history(
            self.settings,
            self.tenant_id,
            self.profile_id,
            [HistoricalDevice(name, METRICS, shown, failed=False)],
        )
        return stable_uuid(f"history:{self.tenant_id}:{self.profile_id}:{name}")


@pytest.fixture
async def fleet(
    mlflow_server: Settings,
    owner: Database,
    worker_database: Database,
    bus: Redis,
    tenant_id: UUID,
) -> AsyncIterator[Fleet]:
    """A tenant with failed engines and no model yet."""
    profile_id = await worn_fleet(mlflow_server, owner, tenant_id)
    async with owner.transaction(tenant_id) as session:
        profile = await session.get_one(DeviceProfile, profile_id)
        profile.configuration = PROFILE_SETTINGS
    async with opened_resources(mlflow_server, worker_database, bus) as resources:
        yield Fleet(
            mlflow_server, worker_database, tenant_id, profile_id, TrainingActivities(resources)
        )


@pytest.fixture
async def predictor(mlflow_server: Settings, worker_database: Database) -> AsyncIterator[Predictor]:
    """Predictions by a process that has just started."""
    predictor = Predictor(mlflow_server, worker_database)
    yield predictor
    await predictor.close()


@pytest.fixture
async def cut_off(
    mlflow_server: Settings, worker_database: Database
) -> AsyncIterator[Callable[[], Predictor]]:
    """Makes a process that has just started and cannot reach MLflow."""
    made: list[Predictor] = []

    def make() -> Predictor:
        deaf = dataclasses.replace(mlflow_server, mlflow=MlflowSettings(port=free_port()))
        made.append(Predictor(deaf, worker_database))
        return made[-1]

    yield make
    for predictor in made:
        await predictor.close()
