"""The quick way of a chunk and the long way of a message make the same of measurements."""

import time
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.devices import Device
from broker.ingest.batching import IngestQueue, Part
from broker.ingest.intake import Ingest
from broker.ingest.profiles import MAX_STREAMS, ProfileRules
from broker.ingest.triggers import TriggerIndex
from broker.metrics import BrokerMetrics
from broker.mqtt.chunks import ChunkParser, Shared
from broker.mqtt.router import Space
from core.db.repositories.ingest_devices import DeviceRow
from core.db.repositories.ingest_rows import RowEncoder
from core.profiles.configuration import ProfileConfiguration
from core.topics_acl import Route, Topics
from tests.broker.raw import publish_packet, telemetry_topic

NOW = time.time_ns() // 1_000_000  # milliseconds
METRICS = BrokerMetrics()
CONFIGURATION = ProfileConfiguration.model_validate(
    {
        "metrics": {
            "a": {"range": [-5, 5], "max_rate": 3},
            "b": {"type": "integer", "unit": "degC", "convert": {"from": "degF"}},
            "sum": {"range": [0, 10]},
        },
        "derived": {"sum": "values.a + values.b", "quotient": "1.0 / values.a"},
    }
)
PLAIN = ProfileConfiguration.model_validate(
    {
        "metrics": {
            "a": {"range": [-5, 5], "max_rate": 3},
            "b": {"type": "integer"},
            "c": {"type": "boolean", "interval": 10},
        }
    }
)
NAMES = [("a",), ("a", "b"), ("b", "a"), ("c",)]
STORED = {
    ("a",): ("a", "quotient"),
    ("a", "b"): ("a", "b", "sum", "quotient"),
    ("b", "a"): ("b", "a", "sum", "quotient"),
    ("c",): ("c",),
}
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.lists(st.integers(-8, 8) | st.floats(-8, 8), min_size=2, max_size=2),
        st.integers(0, 90_000),
    ),
    min_size=1,
    max_size=15,
)


class _Kept(IngestQueue):
    """Keeps what is put."""

    def __init__(self) -> None:
        super().__init__(10**9, 10**9, METRICS)
        self.parts: list[Part] = []

    def put(self, part: Part) -> None:
        """Keep it."""
        self.parts.append(part)


def make(rules: ProfileRules | None, device_id: UUID) -> tuple[Ingest, _Kept, Device]:
    """Return an ingest and a device whose metric lists are known."""
    lists = {
        names: RowEncoder(number, names)
        for number, names in enumerate({*STORED.values(), *NAMES}, start=1)
    }
    row = DeviceRow(
        device_id, device_id, uuid4(), "d", "p", "active", True, "{}", None, uuid4(), None, []
    )
    queue = _Kept()
    ingest = Ingest(queue, TriggerIndex(METRICS), METRICS)
    device = Device(row, lists)
    device.follow(rules)
    return ingest, queue, device


@settings(max_examples=150)
@given(MESSAGES, st.sampled_from([None, PLAIN, CONFIGURATION]))
def test_both_ways_make_the_same(
    messages: list[tuple[tuple[str, ...], list[float], int]], said: ProfileConfiguration | None
) -> None:
    device_id = uuid4()
    rules = None if said is None else ProfileRules(said, lambda: None)
    quick, kept, device = make(rules, device_id)
    slow, _, other = make(rules, device_id)
    expected = Part(other, None)
    payloads = [
        msgspec.json.encode({"ts": NOW - age, "values": dict(zip(names, values, strict=False))})
        for names, values, age in messages
    ]
    nothing = cast(Any, None)  # is needed by none of these messages
    shared = Shared(quick, nothing, {}, 1024)
    space = Space(device.tenant_id)
    parser = ChunkParser(device, nothing, shared, Topics(device_id), nothing, space)
    packets = [publish_packet(telemetry_topic(device_id), p, qos=0) for p in payloads]
    parser.feed(b"".join(packets[:5]))
    parser.feed(b"".join(packets[5:]))
    for payload in payloads:
        slow.message(expected, other, Route.TELEMETRY, b"", payload, time.time_ns() // 1000)
    rows = [row for part in kept.parts for row in part.rows]
    live = [point for part in kept.parts for point in part.live]
    assert rows == expected.rows
    assert [point[:2] + point[3:] for point in live] == [
        point[:2] + point[3:] for point in expected.live
    ]
    assert sum(part.doubtful for part in kept.parts) == expected.doubtful
    assert device.seen > 0


def test_what_is_remembered_of_a_device_is_bounded() -> None:
    ingest, _, device = make(ProfileRules(CONFIGURATION, lambda: None), uuid4())
    for number in range(MAX_STREAMS + 10):
        ingest.sample(Part(device, None), device, NOW * 1000, NOW * 1000, {f"m{number}": 1.0})
    assert device.streams is not None
    assert len(device.streams) == MAX_STREAMS


def test_changed_rules_forget_what_was_remembered_and_the_same_ones_do_not() -> None:
    rules = ProfileRules(CONFIGURATION, lambda: None)
    ingest, _, device = make(rules, uuid4())
    ingest.sample(Part(device, None), device, NOW * 1000, NOW * 1000, {"a": 1.0})
    device.follow(rules)
    assert device.streams
    device.follow(ProfileRules(CONFIGURATION, lambda: None))
    assert device.streams == {}
    device.follow(None)
    assert device.streams is None
