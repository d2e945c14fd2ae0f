"""What ThingsBoard's clients say is read in every form, and never ends in anything but a reason."""

import json
import time
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.dialects.thingsboard import payloads, topics
from broker.dialects.thingsboard.topics import Said
from broker.ingest.payloads import PayloadError, parse_lenient_telemetry

NOW = time.time_ns() // 1000
LETTERS = "ab/~\0\u00e9"  # all of Unicode takes seconds to load
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(LETTERS, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(LETTERS, max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
PARSERS = (
    lambda payload: parse_lenient_telemetry(payload, NOW),
    payloads.per_device,
    payloads.arrival,
    payloads.attribute_request,
    payloads.gateway_attribute_request,
    payloads.call,
    payloads.reply,
    payloads.gateway_reply,
    payloads.claim,
    payloads.provision_request,
)


def raw(document: Any) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("document", "samples", "attributes"),
    [
        ({"a": 1, "b": True}, [(None, {"a": 1.0, "b": 1.0})], {}),
        ([{"a": 1}, {"b": 2}], [(None, {"a": 1.0}), (None, {"b": 2.0})], {}),
        (
            {"ts": 1_451_649_600_512, "values": {"a": 1, "s": "x"}},
            [(1_451_649_600_512_000, {"a": 1.0})],
            {"s": "x"},
        ),
        (
            [{"ts": 1_451_649_600_512, "values": {"a": 1}, "metadata": {"publishedTs": 1}}],
            [(1_451_649_600_512_000, {"a": 1.0})],
            {},
        ),
        ({"a": 1, "json": {"x": [1]}}, [(None, {"a": 1.0})], {"json": {"x": [1]}}),
        ({"values": {"json": [1, 2]}}, [], {"json": [1, 2]}),
        ([{"a": 1}, {"b": {}}], [(None, {"a": 1.0})], {"b": {}}),
    ],
)
def test_telemetry_is_read_in_every_form(
    document: Any, samples: list[Any], attributes: dict[str, Any]
) -> None:
    found = parse_lenient_telemetry(raw(document), NOW)
    assert [(sample.time, sample.values) for sample in found.samples] == samples
    assert found.attributes == attributes


def test_a_fault_keeps_its_pointer_in_the_lenient_form_too() -> None:
    with pytest.raises(PayloadError) as caught:
        parse_lenient_telemetry(raw([{"ts": 5, "values": {"a": 1}, "metadata": {}}]), NOW)
    assert (caught.value.code, caught.value.pointer) == ("time_out_of_range", "/0/ts")


def test_a_gateway_speaks_of_many_devices_in_one_message() -> None:
    found = payloads.per_device(raw({"A": [{"a": 1}], "B/C": {"b": 2}}))
    assert {name: json.loads(part) for name, part in found.items()} == {
        "A": [{"a": 1}],
        "B/C": {"b": 2},
    }
    with pytest.raises(PayloadError) as caught:
        payloads.per_device(raw({str(number): {} for number in range(payloads.MAX_DEVICES + 1)}))
    assert caught.value.code == "too_many"


def test_an_arrival_may_be_a_bare_name() -> None:
    assert payloads.arrival(b"pump 1") == payloads.Arrival("pump 1", None)
    assert payloads.arrival(raw({"device": "pump", "type": "x"})) == payloads.Arrival("pump", "x")


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({"clientKeys": "a,c"}, {"client": {"a": 1}}),
        ({"sharedKeys": "s"}, {"shared": {"s": 3}}),
        ({"clientKeys": "a", "sharedKeys": "none"}, {"client": {"a": 1}}),
        ({}, {"client": {"a": 1, "b": 2}, "shared": {"s": 3}}),
    ],
)
def test_a_device_asks_for_its_attributes(asked: Any, answer: Any) -> None:
    request = payloads.attribute_request(raw(asked))
    assert request.answer({"a": 1, "b": 2}, {"s": 3}) == answer


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ({"client": True, "key": "a"}, {"value": 1}),
        ({"client": True, "keys": ["a", "b"]}, {"values": {"a": 1, "b": 2}}),
        ({"client": False, "keys": ["s"]}, {"values": {"s": 3}}),
        ({"client": ["a"], "shared": ["s"]}, {"client": {"a": 1}, "shared": {"s": 3}}),
    ],
)
def test_a_gateway_asks_for_a_childs_attributes(asked: Any, answer: Any) -> None:
    request = payloads.gateway_attribute_request(raw({"id": 7, "device": "A", **asked}))
    assert request.gateway_answer({"a": 1, "b": 2}, {"s": 3}) == {"id": 7, "device": "A"} | answer


def test_an_answer_to_a_command_is_always_an_object() -> None:
    assert payloads.reply(b'{"ok": true}') == {"ok": True}
    assert payloads.reply(b"true") == {"result": True}
    assert payloads.reply(b"") == {}
    found = payloads.gateway_reply(raw({"device": "A", "id": 3, "data": {"ok": True}}))
    assert found == payloads.Reply("A", 3, {"ok": True})


def test_a_commands_number_is_always_the_same_and_fits_a_signed_integer() -> None:
    command = UUID("ffffffff-ffff-4fff-bfff-ffffffffffff")
    assert payloads.number_of(command) == payloads.number_of(UUID(str(command))) == 2**31 - 1


def test_a_claim_without_anything_has_a_default() -> None:
    assert payloads.claim(b"") == payloads.claim(b"{}")
    assert payloads.claim(raw({"secretKey": "s", "durationMs": 5})) == payloads.Claim("s", 5)


@pytest.mark.parametrize("token", ["short", 5, "x" * 201])
def test_a_token_that_could_be_guessed_is_refused(token: Any) -> None:
    asked = {"provisionDeviceKey": "k", "provisionDeviceSecret": "s", "token": token}
    with pytest.raises(PayloadError):
        payloads.provision_request(raw(asked))


@given(
    before=st.dictionaries(st.text(LETTERS, max_size=3), JSON),
    after=st.dictionaries(st.text(LETTERS, max_size=3), JSON),
)
def test_changes_lead_from_one_state_to_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    before.pop("deleted", None)
    after.pop("deleted", None)
    notice = payloads.changes(before, after)
    gone = notice.pop("deleted", [])
    state = {key: value for key, value in before.items() if key not in gone} | notice
    assert state == after


@given(payload=st.binary(max_size=64) | JSON.map(raw))
def test_whatever_comes_is_read_or_refused_with_a_reason(payload: bytes) -> None:
    for parse in PARSERS:
        with suppress(PayloadError):
            parse(payload)


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        (b"v1/devices/me/attributes/request/1", Said.ASK_ATTRIBUTES),
        (b"v1/devices/me/rpc/request/12", Said.CALL),
        (b"v1/devices/me/rpc/response/5", Said.REPLY),
        (b"v1/devices/me/claim", Said.CLAIM),
        (b"v2/fw/request/1/chunk/0", Said.FIRMWARE),
        (b"v1/devices/me/rpc/response/", None),
        (b"v1/devices/me/rpc/response/1/2", None),
        (b"v1/gateway/telemetry", None),
    ],
)
def test_a_topic_of_a_device_means_one_thing(topic: bytes, said: Said | None) -> None:
    found = topics.parse(topic, gateway=False)
    assert (None if found is None else found.said) == said


def test_only_a_gateway_speaks_and_hears_as_one() -> None:
    assert topics.parse(b"v1/gateway/telemetry", gateway=True) is not None
    assert topics.may_subscribe("v1/gateway/rpc", gateway=True)
    assert not topics.may_subscribe("v1/gateway/rpc", gateway=False)
    assert topics.may_subscribe("v1/devices/me/rpc/request/+", gateway=False)
    assert not topics.may_subscribe("v1/devices/me/rpc/request/#", gateway=False)
    assert not topics.may_subscribe("v1/gateway/#", gateway=True)


@given(topic=st.binary(max_size=60))
def test_any_topic_is_read_or_means_nothing(topic: bytes) -> None:
    assert topics.parse(topic, gateway=True) is None or topic.startswith((b"v1/", b"v2/"))
