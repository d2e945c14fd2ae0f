"""Measurements, as people read them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa

from core.db.session import Database
from core.db.tables import DeadLetter, Device, LatestTelemetry, MetricList, StaleHour, Telemetry
from tests.support.tenants import MadeDevice, make_device, make_profile

START = datetime(2025, 3, 1, 10, 0, tzinfo=UTC)


@pytest.fixture
async def device(owner: Database, tenant_id: UUID) -> MadeDevice:
    """A device with a message every 30 s for ten minutes, and a second list of metrics."""
    made = await make_device(owner, tenant_id, await make_profile(owner, tenant_id))
    async with owner.transaction(tenant_id) as session:
        both = MetricList(tenant_id=tenant_id, names=["temperature", "pressure"])
        other = MetricList(tenant_id=tenant_id, names=["voltage"])
        session.add_all([both, other])
        await session.flush()
        assert both.id is not None
        assert other.id is not None
        for number in range(20):
            session.add(
                Telemetry(
                    device_id=made.id,
                    time=START + timedelta(seconds=30 * number),
                    metrics_id=both.id,
                    values=[float(number), None if number == 3 else 100.0 - number],
                    quality=[100, 40] if number == 5 else None,
                )
            )
        session.add(Telemetry(device_id=made.id, time=START, metrics_id=other.id, values=[230.0]))
        session.add(StaleHour(tenant_id=tenant_id, device_id=made.id, hour=START))
        newest: list[tuple[int, list[float | None], datetime]] = [
            (both.id, [19.0, 81.0], START + timedelta(seconds=570)),
            (other.id, [230.0], START),
        ]
        for metrics, values, at in newest:
            session.add(
                LatestTelemetry(
                    device_id=made.id,
                    metrics_id=metrics,
                    tenant_id=tenant_id,
                    time=at,
                    values=values,
                )
            )
    return made


def _span(**more: Any) -> dict[str, Any]:
    return {
        "start_time": START.isoformat(),
        "end_time": (START + timedelta(minutes=10)).isoformat(),
        **more,
    }


async def test_raw_data_comes_in_order_and_in_pages_without_gap_or_repetition(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    path = f"/api/v1/devices/{device.id}/data"
    whole = (await client.get(path, params=_span())).json()
    assert whole["device_id"] == str(device.id)
    assert whole["aggregation"] == "none"
    assert whole["next_cursor"] is None
    assert len(whole["data"]) == 21
    assert whole["data"][2]["metrics"] == {"temperature": 1.0, "pressure": 99.0}

    pages: list[object] = []
    cursor: str | None = ""
    while cursor is not None:
        params = _span(limit=4, **({"cursor": cursor} if cursor else {}))
        part = (await client.get(path, params=params)).json()
        assert len(part["data"]) <= 4
        pages += part["data"]
        cursor = part["next_cursor"]
    assert pages == whole["data"]


async def test_the_end_of_a_range_does_not_belong_to_it(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    span = {
        "start_time": START.isoformat(),
        "end_time": (START + timedelta(seconds=30)).isoformat(),
    }
    data = (await client.get(f"/api/v1/devices/{device.id}/data", params=span)).json()["data"]
    assert [reading["timestamp"] for reading in data] == ["2025-03-01T10:00:00Z"] * 2


async def test_metrics_are_picked_and_quality_goes_with_them(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    path = f"/api/v1/devices/{device.id}/data"
    picked = (await client.get(path, params=_span(metrics="pressure"))).json()["data"]
    assert len(picked) == 20
    assert picked[3]["metrics"] == {"pressure": None}
    assert picked[5]["quality"] == {"pressure": 40}
    assert "quality" not in picked[4]
    other = (await client.get(path, params=_span(metrics="temperature"))).json()["data"]
    assert "quality" not in other[5]
    both = (await client.get(path, params=_span(metrics=["voltage", "pressure"]))).json()["data"]
    assert len(both) == 21
    commas = (await client.get(path, params=_span(metrics="voltage,pressure"))).json()["data"]
    assert commas == both


async def test_aggregation_sums_up_what_counts(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    path = f"/api/v1/devices/{device.id}/data"
    answer = (await client.get(path, params=_span(aggregation="5m"))).json()
    assert [r["timestamp"] for r in answer["data"]] == [
        "2025-03-01T10:00:00Z",
        "2025-03-01T10:05:00Z",
    ]
    first, second = answer["data"]
    assert first["aggregates"]["temperature"] == {
        "avg": 4.5,
        "min": 0.0,
        "max": 9.0,
        "count": 10,
        "last": 9.0,
        "p95": pytest.approx(8.55),
        "p95_estimated": False,
    }
    # Message 3 has no pressure.
    pressures = [100.0 - n for n in range(10) if n != 3]
    assert first["aggregates"]["pressure"] == {
        "avg": pytest.approx(sum(pressures) / 9),
        "min": 91.0,
        "max": 100.0,
        "count": 9,
        "last": 91.0,
        "p95": pytest.approx(99.6),
        "p95_estimated": False,
    }
    assert first["metrics"]["voltage"] == 230.0
    assert second["metrics"] == {"temperature": 14.5, "pressure": 85.5}
    for width, buckets in (("1m", 10), ("1h", 1), ("1d", 1)):
        part = (await client.get(path, params=_span(aggregation=width))).json()["data"]
        assert len(part) == buckets
    day = (await client.get(path, params=_span(aggregation="1d", metrics="voltage"))).json()["data"]
    assert day == [
        {
            "timestamp": "2025-03-01T00:00:00Z",
            "metrics": {"voltage": 230.0},
            "aggregates": {
                "voltage": {
                    "avg": 230.0,
                    "min": 230.0,
                    "max": 230.0,
                    "count": 1,
                    "last": 230.0,
                    "p95": 230.0,
                    "p95_estimated": False,
                }
            },
        }
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"start_time": "yesterday"},
        {"start_time": "2025-03-01T10:00:00"},  # without a zone
        {"end_time": START.isoformat()},  # empty
        {"aggregation": "2m"},
        {"cursor": "nonsense"},
        {"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OTk6MQ=="},
        {"limit": "0"},
        {"start_time": "1990-01-01T00:00:00Z", "aggregation": "1m"},  # too many buckets
        {"metrics": "a\x00b"},
    ],
)
async def test_a_bad_question_is_refused(
    client: httpx.AsyncClient, device: MadeDevice, change: dict[str, str]
) -> None:
    answer = await client.get(f"/api/v1/devices/{device.id}/data", params=_span(**change))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_latest_values_of_all_metrics(
    client: httpx.AsyncClient, device: MadeDevice
) -> None:
    latest = (await client.get(f"/api/v1/devices/{device.id}/latest")).json()["metrics"]
    assert latest["temperature"] == {"value": 19.0, "timestamp": "2025-03-01T10:09:30Z"}
    assert latest["voltage"] == {"value": 230.0, "timestamp": "2025-03-01T10:00:00Z"}


async def test_dead_letters_say_what_was_wrong(
    client: httpx.AsyncClient, owner: Database, tenant_id: UUID, device: MadeDevice
) -> None:
    async with owner.transaction(tenant_id) as session:
        session.add(
            DeadLetter(
                tenant_id=tenant_id,
                device_id=device.id,
                topic="v1/devices/x/telemetry",
                payload=b"{\xff",
                code="malformed",
                message="not JSON",
            )
        )
        row = await session.get(Device, device.id)
        assert row is not None
        row.dead_letters_dropped = 7
    letters = (await client.get(f"/api/v1/devices/{device.id}/dead-letters")).json()
    assert letters["pagination"]["total"] == 1
    assert letters["dropped"] == 7
    assert letters["dead_letters"][0]["payload"] == "{�"


async def test_raw_data_is_read_by_the_primary_key(owner: Database, device: MadeDevice) -> None:
    async with owner.transaction(None) as session:
        await session.execute(sa.text("SET LOCAL enable_seqscan = off"))
        plan = await session.scalars(
            sa.text(
                "EXPLAIN SELECT t.time FROM telemetry t JOIN metric_lists m ON m.id = t.metrics_id "
                "WHERE t.device_id = :device AND t.time >= :start AND t.time < :until "
                "ORDER BY t.time, t.metrics_id LIMIT 10"
            ),
            {"device": device.id, "start": START, "until": START + timedelta(days=1)},
        )
        assert any("pkey" in line for line in plan)
