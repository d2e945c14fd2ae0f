"""Predictions rest on the device's own measurements and on the champion alone."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import select

from core.db.session import Database
from core.db.tables import DeviceEvent, DeviceProfile, Prediction
from core.errors import ConfigurationError, InvalidInputError, NotFoundError, UnavailableError
from mlops.inference import Predictor
from tests.mlops.inference.conftest import Fleet
from tests.support.tenants import make_tenant
from tests.support.training import PROFILE

pytestmark = pytest.mark.slow


async def test_a_worn_engine_is_told_from_a_fresh_one(fleet: Fleet, predictor: Predictor) -> None:
    version = await fleet.train()
    worn = await predictor.predict(fleet.tenant_id, await fleet.device(8), "failure")
    fresh = await predictor.predict(fleet.tenant_id, await fleet.device(70), "failure")

    value = worn.prediction
    assert value.type == "failure"
    assert value.time_to_event is not None
    assert value.time_to_event == pytest.approx(2 * worn.details["remaining_cycles"], abs=0.01)
    assert worn.details["remaining_cycles"] < 25
    low, high = worn.details["interval"]["remaining_cycles"]
    assert low <= worn.details["remaining_cycles"] <= high
    assert worn.details["cycles_seen"] == 142
    assert worn.details["top_signals"][0]["signal"] in {"heat", "age"}
    assert value.probability > fresh.prediction.probability
    assert value.recommended_actions == ["Stop the engine", "Plan an overhaul"]
    assert fresh.prediction.recommended_actions == ["Plan an overhaul"]
    assert fresh.details["remaining_cycles"] > 40
    assert worn.model_info.version == version
    assert 0 < worn.model_info.accuracy <= 1


async def test_the_answer_is_recorded(fleet: Fleet, predictor: Predictor) -> None:
    await fleet.train()
    device_id = await fleet.device(30)
    result = await predictor.predict(fleet.tenant_id, device_id, "failure", horizon_hours=10)
    async with fleet.database.transaction(fleet.tenant_id) as session:
        row = (await session.scalars(select(Prediction))).one()
    assert (row.device_id, row.prediction_type) == (device_id, "failure")
    assert row.probability == result.prediction.probability
    assert row.time_to_event == result.prediction.time_to_event
    assert row.model_version == result.model_info.version
    assert row.details["remaining_cycles"] == result.details["remaining_cycles"]


async def test_a_longer_horizon_is_more_probable(fleet: Fleet, predictor: Predictor) -> None:
    await fleet.train()
    device_id = await fleet.device(30)
    answers = [
        await predictor.predict(fleet.tenant_id, device_id, "failure", horizon_hours=hours)
        for hours in (2, 60, 400)
    ]
    values = [answer.prediction.probability for answer in answers]
    assert values == sorted(values)
    assert values[0] < 0.5 < values[2]


async def test_below_the_confidence_threshold_nothing_is_recommended(
    fleet: Fleet, predictor: Predictor
) -> None:
    await fleet.train()
    device_id = await fleet.device(8)
    sure = await predictor.predict(fleet.tenant_id, device_id, "failure", confidence_threshold=0)
    assert sure.details["confident"]
    unsure = await predictor.predict(
        fleet.tenant_id, device_id, "failure", confidence_threshold=1.01
    )
    assert not unsure.details["confident"]
    assert unsure.prediction.recommended_actions == []


async def test_an_overhaul_begins_a_new_life(
    fleet: Fleet, predictor: Predictor, owner: Database
) -> None:
    await fleet.train()
    device_id = await fleet.device(8)
    async with owner.transaction(fleet.tenant_id) as session:
        session.add(
            DeviceEvent(
                tenant_id=fleet.tenant_id,
                device_id=device_id,
                name="overhaul",
                time=datetime.now(UTC) - timedelta(hours=40),
            )
        )
    result = await predictor.predict(fleet.tenant_id, device_id, "failure")
    assert result.details["cycles_seen"] == 40


async def test_too_few_measurements_are_counted(fleet: Fleet, predictor: Predictor) -> None:
    await fleet.train()
    device_id = await fleet.device(0, cycles=7)
    with pytest.raises(InvalidInputError, match=r"needs 20 measurements.*there are 7"):
        await predictor.predict(fleet.tenant_id, device_id, "failure")


async def test_a_hundred_at_once_are_answered(fleet: Fleet, predictor: Predictor) -> None:
    await fleet.train()
    device_id = await fleet.device(30)
    answers = await asyncio.gather(
        *(predictor.predict(fleet.tenant_id, device_id, "failure") for _ in range(100))
    )
    assert len({answer.details["remaining_cycles"] for answer in answers}) == 1
    async with fleet.database.transaction(fleet.tenant_id) as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(Prediction)) == 100


async def test_without_a_model_it_says_how_to_get_one(fleet: Fleet, predictor: Predictor) -> None:
    with pytest.raises(NotFoundError, match="no model has been trained"):
        await predictor.champion(fleet.tenant_id, PROFILE)
    with pytest.raises(NotFoundError, match="start a training"):
        await predictor.predict(fleet.tenant_id, await fleet.device(30), "failure")


async def test_a_known_champion_serves_without_mlflow(
    fleet: Fleet, cut_off: Callable[[], Predictor]
) -> None:
    version = await fleet.train()
    predictor = cut_off()
    device_id = await fleet.device(30)
    for _ in range(2):  # from disk, then from memory with a look at MLflow that fails
        result = await predictor.predict(fleet.tenant_id, device_id, "failure")
        assert result.model_info.version == version


async def test_an_unknown_champion_without_mlflow_is_unavailable(
    fleet: Fleet, cut_off: Callable[[], Predictor]
) -> None:
    predictor = cut_off()
    device_id = await fleet.device(30)
    answers = await asyncio.gather(
        *(predictor.predict(fleet.tenant_id, device_id, "failure") for _ in range(5)),
        return_exceptions=True,
    )
    assert {type(answer) for answer in answers} == {UnavailableError}


async def test_a_new_champion_serves_at_once(fleet: Fleet, predictor: Predictor) -> None:
    first = await fleet.train(rounds=5)
    device_id = await fleet.device(30)
    before = await predictor.predict(fleet.tenant_id, device_id, "failure")
    second = await fleet.train(rounds=250)
    after = await predictor.predict(fleet.tenant_id, device_id, "failure")
    assert (before.model_info.version, after.model_info.version) == (first, second)
    champion = await predictor.champion(fleet.tenant_id, PROFILE)
    assert champion.version == second
    assert champion.model.metadata.rounds == 250


@pytest.mark.parametrize("damage", ["gone", "changed"])
async def test_a_cache_that_is_no_good_is_fetched_anew(
    fleet: Fleet, predictor: Predictor, damage: str
) -> None:
    version = await fleet.train()
    (pointer,) = (fleet.settings.artifacts / "champions").glob(
        f"{fleet.tenant_id.hex}-*/champion.json"
    )
    if damage == "gone":
        pointer.unlink()
    else:
        (pointer.parent / version / "model.ubj").write_bytes(b"not what was registered")
    device_id = await fleet.device(30)
    result = await predictor.predict(fleet.tenant_id, device_id, "failure")
    assert result.model_info.version == version


async def test_anomaly_without_any_model(fleet: Fleet, cut_off: Callable[[], Predictor]) -> None:
    device_id = await fleet.device(100)
    usual = await cut_off().predict(fleet.tenant_id, device_id, "anomaly")
    assert not usual.details["anomalous"]
    async with fleet.database.transaction(fleet.tenant_id) as session:
        assert (await session.scalars(select(Prediction.prediction_type))).all() == ["anomaly"]


async def test_trend_of_a_metric_towards_its_limit(fleet: Fleet, predictor: Predictor) -> None:
    result = await predictor.predict(
        fleet.tenant_id, await fleet.device(5), "trend", horizon_hours=24
    )
    assert result.details["metric"] == "heat"
    assert result.details["slope_per_hour"] > 0
    assert result.details["range"] == [0, 560]
    assert result.prediction.time_to_event is not None
    low, high = result.details["interval"]["value"]
    assert low < result.details["forecast"] < high


@pytest.mark.parametrize("kind", ["anomaly", "trend"])
async def test_a_silent_device_is_refused(fleet: Fleet, predictor: Predictor, kind: str) -> None:
    device_id = await fleet.device(0, cycles=3)
    with pytest.raises(InvalidInputError, match="20"):
        await predictor.predict(fleet.tenant_id, device_id, kind)  # type: ignore[arg-type]


async def test_a_device_of_another_tenant_does_not_exist(
    fleet: Fleet, predictor: Predictor, owner: Database
) -> None:
    device_id = await fleet.device(30)
    stranger = await make_tenant(owner)
    for tenant_id, wanted in ((stranger, device_id), (fleet.tenant_id, uuid4())):
        with pytest.raises(NotFoundError, match="no device"):
            await predictor.predict(tenant_id, wanted, "anomaly")


async def test_a_malformed_profile_is_named(
    fleet: Fleet, predictor: Predictor, owner: Database
) -> None:
    device_id = await fleet.device(30)
    async with owner.transaction(fleet.tenant_id) as session:
        profile = await session.get_one(DeviceProfile, fleet.profile_id)
        profile.configuration = {"prediction": {"cycle_hours": -1}}
    with pytest.raises(ConfigurationError, match=r"prediction\.cycle_hours of the profile engine"):
        await predictor.predict(fleet.tenant_id, device_id, "anomaly")
