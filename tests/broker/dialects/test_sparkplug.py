"""Sparkplug B is decoded, its sequence watched, and whatever is no Sparkplug is refused."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.dialects.sparkplug import payloads, topics
from broker.dialects.sparkplug.node import BD_SEQ, REBIRTH, Gap, Kind, Node
from broker.dialects.sparkplug.payloads import CommandError, DataType
from broker.dialects.sparkplug.schema import PayloadMessage
from broker.ingest.payloads import PayloadError

NOW = time.time_ns() // 1000
MS = NOW // 1000


def message(*metrics: dict[str, Any], seq: int | None = None, sent: int | None = MS) -> bytes:
    built = PayloadMessage()
    if sent is not None:
        built.timestamp = sent
    if seq is not None:
        built.seq = seq
    for metric in metrics:
        built.metrics.add(**metric)
    return built.SerializeToString()


def metric(name: str, value: Any, datatype: DataType, field: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": int(datatype), field: value} | more


TEMPERATURE = metric("temperature", 20.5, DataType.DOUBLE, "double_value")


def bd_seq(number: int) -> dict[str, Any]:
    return metric(BD_SEQ, number, DataType.INT64, "long_value")


def take(node: Node, kind: Kind, payload: bytes, device: str | None = None) -> Any:
    return node.take(kind, device, payloads.decode(payload), NOW)


def born(bd: int = 0) -> Node:
    node = Node()
    temperature = metric("temperature", 20.0, DataType.DOUBLE, "double_value", alias=1)
    take(node, Kind.NBIRTH, message(bd_seq(bd), temperature, seq=0))
    return node


@pytest.mark.parametrize(
    ("datatype", "field", "raw", "value"),
    [
        (DataType.INT8, "int_value", 0xFF, -1.0),
        (DataType.INT8, "int_value", 0xFFFF_FFFF, -1.0),
        (DataType.INT16, "int_value", 0x8000, -32768.0),
        (DataType.INT32, "int_value", 0xFFFF_FFFE, -2.0),
        (DataType.INT64, "long_value", 2**64 - 5, -5.0),
        (DataType.UINT8, "int_value", 255, 255.0),
        (DataType.UINT32, "int_value", 2**32 - 1, 4294967295.0),
        (DataType.UINT64, "long_value", 2**63, float(2**63)),
        (DataType.FLOAT, "float_value", 0.5, 0.5),
        (DataType.DOUBLE, "double_value", float("nan"), None),
        (DataType.BOOLEAN, "boolean_value", True, 1.0),
        (DataType.BOOLEAN, "boolean_value", False, 0.0),
    ],
)
def test_numbers_are_read_by_their_type(
    datatype: DataType, field: str, raw: Any, value: float | None
) -> None:
    node = Node()
    reading = take(node, Kind.NBIRTH, message(metric("a", raw, datatype, field), seq=0))
    assert reading.samples == {MS * 1000: {"a": value}}


def test_texts_times_and_nulls_have_their_places() -> None:
    node = Node()
    reading = take(
        node,
        Kind.NBIRTH,
        message(
            metric("s", "x", DataType.STRING, "string_value"),
            metric("t", 1_451_649_600_512, DataType.DATETIME, "long_value"),
            {"name": "n", "datatype": int(DataType.INT32), "is_null": True},
            {"name": "gone", "datatype": int(DataType.TEXT), "is_null": True},
            metric("b", b"\1", DataType.STRING, "bytes_value"),
            metric("no", 1, DataType.INT32, "int_value", is_transient=True),
            metric("Node Control/Rebirth", False, DataType.BOOLEAN, "boolean_value"),
            bd_seq(3),
            seq=0,
        ),
    )
    assert reading.attributes == {"s": "x", "t": "2016-01-01T12:00:00.512+00:00", "gone": None}
    assert reading.samples == {MS * 1000: {"n": None}}
    assert (node.bd_seq, node.incomplete) == (3, False)


def test_a_metric_has_its_own_time_and_may_be_historical() -> None:
    node = born()
    old = metric("temperature", 1.0, DataType.DOUBLE, "double_value")
    reading = take(
        node,
        Kind.NDATA,
        message(old | {"timestamp": MS - 5000, "is_historical": True}, old, seq=1),
    )
    assert reading.historical == {(MS - 5000) * 1000: {"temperature": 1.0}}
    assert reading.samples == {MS * 1000: {"temperature": 1.0}}


def test_an_alias_stands_for_the_name_and_type_of_the_birth() -> None:
    node = born()
    device = metric("on", False, DataType.BOOLEAN, "boolean_value", alias=7)
    take(node, Kind.DBIRTH, message(device, seq=1), "pump")
    reading = take(node, Kind.NDATA, message({"alias": 1, "double_value": 21.5}, seq=2))
    assert reading.samples == {MS * 1000: {"temperature": 21.5}}
    reading = take(node, Kind.DDATA, message({"alias": 7, "boolean_value": True}, seq=3), "pump")
    assert reading.samples == {MS * 1000: {"on": 1.0}}
    assert not node.incomplete


def test_an_alias_that_no_birth_named_asks_for_a_rebirth() -> None:
    node = Node()
    with pytest.raises(Gap) as caught:
        take(node, Kind.NDATA, message({"alias": 1, "double_value": 1.0}, seq=4))
    assert caught.value.code == "unknown_alias"
    assert node.incomplete


def test_data_with_names_is_read_even_before_a_birth() -> None:
    node = Node()
    data = metric("a", 1.0, DataType.DOUBLE, "double_value")
    assert take(node, Kind.NDATA, message(data, seq=4)).samples == {MS * 1000: {"a": 1.0}}
    assert node.incomplete


def test_a_gap_in_the_sequence_asks_for_a_rebirth_which_mends_it() -> None:
    node = born()
    data = {"alias": 1, "double_value": 1.0}
    take(node, Kind.NDATA, message(data, seq=1))
    assert not node.incomplete
    take(node, Kind.NDATA, message(data, seq=3))
    assert node.incomplete
    take(node, Kind.NBIRTH, message(bd_seq(0), seq=0))
    assert not node.incomplete


def test_the_sequence_wraps_at_256() -> None:
    node = Node()
    take(node, Kind.NBIRTH, message(bd_seq(0), seq=255))
    take(node, Kind.NDATA, message(seq=0))
    assert not node.incomplete


def test_the_death_of_an_earlier_life_means_nothing() -> None:
    node = born(bd=4)
    assert take(node, Kind.NDEATH, message(bd_seq(3))) is None
    assert node.born
    assert take(node, Kind.NDEATH, message(bd_seq(4), sent=None)) is not None
    assert not node.born


def test_a_death_takes_the_devices_along_and_a_device_dies_alone() -> None:
    node = born()
    take(node, Kind.DBIRTH, message(seq=1), "a")
    take(node, Kind.DBIRTH, message(seq=2), "b")
    take(node, Kind.DDEATH, message(seq=3), "a")
    assert list(node.devices) == ["b"]
    take(node, Kind.NDEATH, message(bd_seq(0)))
    assert not node.devices


@pytest.mark.parametrize(
    ("metrics", "code"),
    [
        ([metric("ts", 1.0, DataType.DOUBLE, "double_value")], "invalid_name"),
        ([metric("x" * 101, 1.0, DataType.DOUBLE, "double_value")], "invalid_name"),
        ([metric("a", 1.0, DataType.DOUBLE, "double_value", timestamp=5)], "time_out_of_range"),
        ([metric("a", "x", DataType.DOUBLE, "string_value")], "invalid_value"),
        ([metric("a", "x", DataType.INT8, "string_value")], "invalid_value"),
        ([metric("a", 1, DataType.STRING, "int_value")], "invalid_value"),
        ([{"alias": 3, "double_value": 1.0}], "invalid_name"),
        (
            [
                metric("a", 1.0, DataType.DOUBLE, "double_value", alias=1),
                metric("b", 1.0, DataType.DOUBLE, "double_value", alias=1),
            ],
            "invalid_alias",
        ),
    ],
)
def test_a_faulty_birth_is_refused_and_leaves_the_node_as_it_was(
    metrics: list[dict[str, Any]], code: str
) -> None:
    node = born()
    with pytest.raises(PayloadError) as caught:
        take(node, Kind.NBIRTH, message(*metrics, seq=0))
    assert caught.value.code == code
    assert node.names.by_alias == {1: "temperature"}


@pytest.mark.parametrize("text", [b"tempera", b"warm"])
def test_text_that_is_no_utf_8_is_refused(text: bytes) -> None:
    warm = metric("temperature", "warm", DataType.STRING, "string_value")
    damaged = message(warm, seq=0).replace(text, b"\xff" * len(text))
    with pytest.raises(PayloadError) as caught:
        payloads.decode(damaged)
    assert caught.value.code == "invalid_text"


def test_a_command_names_a_metric_by_alias_where_the_birth_gave_one() -> None:
    types = {"on": DataType.BOOLEAN, "level": DataType.INT8, "label": DataType.STRING}
    raw = payloads.encode_command({"on": True, "level": -3, "label": "x"}, types, {"level": 9}, MS)
    found = PayloadMessage.FromString(raw).metrics
    assert [(m.name, m.alias) for m in found] == [("on", 0), ("", 9), ("label", 0)]
    assert (found[0].boolean_value, found[1].int_value, found[2].string_value) == (True, 253, "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [("none", 1), ("on", 1), ("level", 200), ("level", 1.5), ("level", True), ("label", 1)],
)
def test_a_command_that_fits_no_metric_is_refused(name: str, value: Any) -> None:
    types = {"on": DataType.BOOLEAN, "level": DataType.INT8, "label": DataType.STRING}
    with pytest.raises(CommandError):
        payloads.encode_command({name: value}, types, {}, MS)


def test_topics_are_read_and_anything_else_is_nothing() -> None:
    assert topics.parse(b"spBv1.0/g/NBIRTH/e") == topics.Address("g", Kind.NBIRTH, "e", None)
    assert topics.parse(b"spBv1.0/g/DDATA/e/d") == topics.Address("g", Kind.DDATA, "e", "d")
    for topic in (
        b"spBv1.0/g/DDATA/e",
        b"spBv1.0/g/NBIRTH/e/d",
        b"spBv1.0/g/NCMD/e",
        b"spBv1.0//NDATA/e",
    ):
        assert topics.parse(topic) is None


def test_a_node_hears_its_own_commands_and_the_hosts_state_only() -> None:
    for own in (
        "spBv1.0/g/NCMD/e",
        "spBv1.0/g/NCMD/e/#",
        "spBv1.0/g/DCMD/e/#",
        "spBv1.0/g/DCMD/e/d",
    ):
        assert topics.may_subscribe(own, "g", "e"), own
    for other in (
        "spBv1.0/#",
        "spBv1.0/+/NCMD/e",
        "spBv1.0/h/NCMD/e",
        "spBv1.0/g/NCMD/f",
        "spBv1.0/g/DDATA/e/#",
    ):
        assert not topics.may_subscribe(other, "g", "e"), other
    assert topics.state("spBv1.0/STATE/host") == "spBv1.0/STATE/host"


LETTERS = "ab/\0\u00e9"  # all of Unicode takes seconds to load
METRICS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(LETTERS, max_size=6),
        "alias": st.integers(0, 3),
        "timestamp": st.just(MS) | st.integers(0, 2**64 - 1),
        "datatype": st.integers(0, 40),
        "is_historical": st.booleans(),
        "is_null": st.booleans(),
        "int_value": st.integers(0, 2**32 - 1),
        "double_value": st.floats(),
        "string_value": st.text(LETTERS, max_size=4),
        "bytes_value": st.binary(max_size=4),
    },
)
PAYLOADS = st.builds(
    lambda metrics, seq, sent: message(*metrics, seq=seq, sent=sent),
    st.lists(METRICS, max_size=5),
    st.none() | st.integers(0, 300),
    st.none() | st.just(MS) | st.integers(0, 2**64 - 1),
)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(Kind), PAYLOADS | st.binary(max_size=40), st.sampled_from("ab")),
        max_size=12,
    )
)
def test_whatever_a_node_sends_is_read_or_refused_with_a_reason(
    steps: list[tuple[Kind, bytes, str]],
) -> None:
    node = Node()
    for kind, payload, device in steps:
        try:
            reading = take(node, kind, payload, None if kind.of_node else device)
        except PayloadError:
            continue
        if reading is not None:
            for group in (reading.samples, reading.historical):
                for values in group.values():
                    assert all(value is None or value == value for value in values.values())


def test_the_rebirth_command_needs_no_birth() -> None:
    raw = payloads.encode_command({REBIRTH: True}, {REBIRTH: DataType.BOOLEAN}, {}, MS)
    (found,) = PayloadMessage.FromString(raw).metrics
    assert (found.name, found.boolean_value) == (REBIRTH, True)
