"""Each activity of a training may be repeated, interrupted, and given bad data."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import polars as pl
import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.training import TrainingActivities
from core.db.session import Database
from core.db.tables import DeviceEvent
from core.settings import Settings
from core.settings.services import MlflowSettings
from core.temporal.contracts import TrainingInput
from mlops.features import BASELINE
from mlops.model import RulModel
from mlops.registry import CHALLENGER, CHAMPION, TRAINING_TAG
from mlops.training.boosting import SEGMENT
from tests.support.durable import opened_resources
from tests.support.servers import free_port
from tests.support.tenants import make_profile
from tests.support.training import release, train, training_input, worn_fleet
from tests.support.waiting import eventually


@pytest.fixture
async def family(
    postgres_server: Settings, worker_database: Database, bus: Redis
) -> AsyncIterator[TrainingActivities]:
    async with opened_resources(postgres_server, worker_database, bus) as resources:
        yield TrainingActivities(resources)


@pytest.fixture
async def training(postgres_server: Settings, owner: Database, tenant_id: UUID) -> TrainingInput:
    return training_input(tenant_id, await worn_fleet(postgres_server, owner, tenant_id))


@contextmanager
def refused(code: str, words: str) -> Generator[None]:
    """Expect an error that Temporal does not retry."""
    with pytest.raises(ApplicationError, match=words) as caught:
        yield
    assert caught.value.type == code
    assert caught.value.non_retryable


async def test_freezes_every_life(
    family: TrainingActivities, training: TrainingInput, settings: Settings
) -> None:
    dataset = await ActivityEnvironment().run(family.snapshot, training)
    rows = pl.read_parquet(settings.artifacts / dataset.path / "part-*.parquet")
    assert (dataset.devices, dataset.lives, dataset.rows) == (12, 12, len(rows))
    assert dataset.ended - dataset.started >= timedelta(hours=79)
    again = await ActivityEnvironment().run(family.snapshot, training)
    assert again == dataset


@pytest.mark.parametrize(("event", "lives"), [("failure", 13), ("overhaul", 12)])
async def test_a_repaired_device_has_a_life_for_each_failure(
    family: TrainingActivities,
    training: TrainingInput,
    owner: Database,
    settings: Settings,
    event: str,
    lives: int,
) -> None:
    mine = sa.column("tenant_id") == training.tenant_id  # the owner sees every tenant
    async with owner.transaction(training.tenant_id) as session:
        first = (await session.scalars(sa.select(DeviceEvent).where(mine).limit(1))).one()
        assert first.time is not None
        session.add(
            DeviceEvent(
                tenant_id=training.tenant_id,
                device_id=first.device_id,
                name=event,
                time=first.time - timedelta(hours=40),
            )
        )
    dataset = await ActivityEnvironment().run(family.snapshot, training)
    assert (dataset.devices, dataset.lives) == (12, lives)
    rows = pl.read_parquet(settings.artifacts / dataset.path / "part-*.parquet")
    last = rows.filter(pl.col("device_id") == str(first.device_id), pl.col("life") == 1)
    assert last["position"].to_list() == list(range(40))


async def test_without_failures_it_says_so(
    family: TrainingActivities, training: TrainingInput
) -> None:
    other = training.model_copy(update={"failure_event": "explosion"})
    with refused("not_enough_data", "0 devices of this profile have an event .*explosion"):
        await ActivityEnvironment().run(family.snapshot, other)


async def test_failed_devices_without_measurements_do_not_count(
    family: TrainingActivities, training: TrainingInput, owner: Database
) -> None:
    async with owner.transaction(training.tenant_id) as session:
        await session.execute(
            sa.text(
                "UPDATE device_events SET time = time - interval '1 year' WHERE tenant_id = :id"
            ),
            {"id": training.tenant_id},
        )
    with refused("not_enough_data", f"0 devices have at least {2 * BASELINE} measurements"):
        await ActivityEnvironment().run(family.snapshot, training)


async def test_an_unknown_profile_is_named(
    family: TrainingActivities, training: TrainingInput
) -> None:
    with refused("not_found", "no device profile"):
        await ActivityEnvironment().run(
            family.snapshot, training.model_copy(update={"profile_id": uuid4()})
        )


async def test_held_out_devices_are_not_in_the_matrix(
    family: TrainingActivities, training: TrainingInput, settings: Settings
) -> None:
    run = ActivityEnvironment().run
    dataset = await run(family.snapshot, training)
    features = await run(family.features, training, dataset)
    assert features.metrics == ("heat", "speed")
    assert len({*features.trained_on, *features.held_out}) == 12
    rows = pl.read_parquet(settings.artifacts / dataset.path / "part-*.parquet")
    mine = rows.filter(pl.col("device_id").is_in([str(one) for one in features.trained_on]))
    assert features.rows == len(mine)


async def test_a_changed_dataset_is_refused(
    family: TrainingActivities, training: TrainingInput, settings: Settings
) -> None:
    dataset = await ActivityEnvironment().run(family.snapshot, training)
    part = next((settings.artifacts / dataset.path).glob("part-*"))
    part.write_bytes(b"something else")
    with refused("artifact_damaged", "part-00000"):
        await ActivityEnvironment().run(family.features, training, dataset)


async def test_a_cancelled_attempt_is_taken_up_where_it_stopped(
    family: TrainingActivities, training: TrainingInput
) -> None:
    long = training.model_copy(update={"rounds": 1000})
    dataset = await ActivityEnvironment().run(family.snapshot, long)
    features = await ActivityEnvironment().run(family.features, long, dataset)
    checkpoints = family._folder(long) / "checkpoints"
    first = ActivityEnvironment()
    attempt = asyncio.ensure_future(first.run(family.train, long, features))
    await eventually(lambda: [*checkpoints.glob("rounds-*.ubj")])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    done = max(int(path.stem.split("-")[1]) for path in checkpoints.glob("rounds-*.ubj"))
    assert SEGMENT <= done < 1000

    beats: list[dict[str, int]] = []
    second = ActivityEnvironment()
    second.on_heartbeat = lambda *details: beats.append(details[0])
    booster = await second.run(family.train, long, features)
    assert booster.rounds == 1000
    assert booster.resumed_from == done
    assert beats[-1] == {"rounds": 1000, "of": 1000}


async def test_the_model_is_judged_on_devices_it_has_not_seen(
    family: TrainingActivities, training: TrainingInput, settings: Settings
) -> None:
    trained = await train(family, training)
    model = RulModel.load(settings.artifacts / trained.model.path, trained.model.sha256)
    metadata = model.metadata
    assert metadata.held_out == trained.features.held_out
    assert not set(metadata.held_out) & set(metadata.trained_on)
    assert metadata.metrics == trained.model.metrics
    # Guessing the middle of 0 to 60 is off by some 20 cycles.
    assert trained.model.metrics["rmse"] < 15
    assert metadata.dataset.sha256 == trained.dataset.sha256


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_server")
async def test_a_training_is_registered_once(
    family: TrainingActivities, training: TrainingInput, settings: Settings
) -> None:
    from mlflow.tracking import MlflowClient

    trained = await train(family, training)
    run = ActivityEnvironment().run
    folder = settings.artifacts / "trainings" / str(training.training_id)
    (folder / ".left-by-a-killed-attempt").mkdir()
    first = await run(family.register, training, trained.model)
    assert [path.name for path in folder.iterdir()] == ["model"]
    second = await run(family.register, training, trained.model)
    assert first == second
    client = MlflowClient(settings.mlflow_url, settings.mlflow_url)
    versions = client.search_model_versions(f"name = '{training.model_name}'")
    assert [str(version.version) for version in versions] == [first.version]
    record = client.get_run(first.run_id)
    assert record.info.status == "FINISHED"
    assert record.data.metrics == pytest.approx(trained.model.metrics)
    assert record.data.params["rul_cap"] == "60"
    assert record.data.tags[TRAINING_TAG] == str(training.training_id)
    assert record.data.tags["iotlinker.dataset.sha256"] == trained.dataset.sha256
    files = client.list_artifacts(first.run_id, "model")
    assert {file.path for file in files} == {
        "model/model.ubj",
        "model/metadata.json",
        "model/manifest.json",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_server")
async def test_the_better_model_is_champion_and_the_worse_challenger(
    family: TrainingActivities, training: TrainingInput, settings: Settings
) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(settings.mlflow_url, settings.mlflow_url)

    async def run(rounds: int) -> tuple[str, bool, dict[str, float] | None]:
        one = training.model_copy(update={"rounds": rounds, "training_id": uuid4()})
        result = await release(family, one, await train(family, one))
        return result.model_version, result.promoted, result.champion_metrics

    def alias(name: str) -> str:
        return str(client.get_model_version_by_alias(training.model_name, name).version)

    first, promoted, beaten = await run(60)
    assert promoted
    assert beaten is None
    worse, promoted, beaten = await run(5)
    assert not promoted
    assert beaten is not None
    assert (alias(CHAMPION), alias(CHALLENGER)) == (first, worse)
    better, promoted, beaten = await run(250)
    assert promoted
    assert alias(CHAMPION) == better
    pointer = settings.artifacts / "champions" / training.model_name / "champion.json"
    assert f'"version": "{better}"' in pointer.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_server")
async def test_promoting_twice_comes_to_the_same(
    family: TrainingActivities, training: TrainingInput
) -> None:
    trained = await train(family, training)
    first = await release(family, training, trained)
    assert await release(family, training, trained) == first


async def test_an_absent_mlflow_is_worth_retrying(
    settings: Settings,
    worker_database: Database,
    bus: Redis,
    training: TrainingInput,
    family: TrainingActivities,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trained = await train(family, training)
    deaf = dataclasses.replace(settings, mlflow=MlflowSettings(port=free_port()))
    async with opened_resources(deaf, worker_database, bus) as resources:
        with pytest.raises(ApplicationError, match="MLflow at") as caught:
            await ActivityEnvironment().run(
                TrainingActivities(resources).register, training, trained.model
            )
    assert caught.value.type == "unavailable"
    assert not caught.value.non_retryable


async def test_profiles_without_devices_have_too_little_data(
    family: TrainingActivities, owner: Database, tenant_id: UUID
) -> None:
    empty = training_input(tenant_id, await make_profile(owner, tenant_id, "empty"))
    with refused("not_enough_data", "0 devices"):
        await ActivityEnvironment().run(family.snapshot, empty)
