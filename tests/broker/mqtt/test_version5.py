"""MQTT 5 is translated without loss of what MQTT 3.1.1 can say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt import packets
from broker.mqtt.faults import MalformedPacketError
from broker.mqtt.version5 import Version5, speaks


def connect(
    *, flags: int = 2, properties: bytes = b"", client_id: bytes = b"c", rest: bytes = b""
) -> bytes:
    head = b"\0\4MQTT\5" + bytes((flags,)) + b"\0\x3c"
    body = head + bytes((len(properties),)) + properties
    body += len(client_id).to_bytes(2) + client_id + rest
    return b"\x10" + bytes((len(body),)) + body


def opened(**more: bytes | int) -> Version5:
    codec = Version5(1000, 3600)
    codec.incoming(connect(**more))  # pyright: ignore[reportArgumentType]
    return codec


def wish(packet: bytes) -> packets.Wish:
    found = packets.first_packet(packet)
    assert found is not None
    return packets.read_wish(found[0])


def test_a_connect_becomes_one_of_3_1_1() -> None:
    rest = b"\0\4user\0\2pw"
    translated = Version5(1000, 3600).incoming(connect(flags=0xC2, rest=rest))
    found = wish(translated)
    assert (found.client_id, found.username, found.password) == ("c", "user", "pw")
    assert (found.clean, found.keep_alive) == (True, 60)


def test_a_will_loses_its_properties() -> None:
    will = b"\x05\x18\0\0\0\x05" + b"\0\x01t" + b"\0\3bye"
    found = wish(Version5(1000, 3600).incoming(connect(flags=0x0E, rest=will)))
    assert found.will == packets.Will(b"t", b"bye", 1, False)


@pytest.mark.parametrize(
    ("flags", "expiry", "clean", "said"),
    [(0, 0, True, None), (0, 60, False, 60), (0, 10**6, False, 3600), (2, 60, True, 0)],
)
def test_a_session_lasts_as_long_as_the_server_can_say(
    flags: int, expiry: int, clean: bool, said: int | None
) -> None:
    codec = Version5(1000, 3600)
    properties = b"\x11" + expiry.to_bytes(4) if expiry else b""
    assert wish(codec.incoming(connect(flags=flags, properties=properties))).clean is clean
    answer = codec.outgoing(packets.connack(0))
    assert (b"\x11" in answer[5:]) is (said is not None)
    if said is not None:
        assert b"\x11" + said.to_bytes(4) in answer


def test_a_client_without_id_is_told_the_one_it_got() -> None:
    codec = Version5(1000, 3600)
    given_id = wish(codec.incoming(connect(client_id=b""))).client_id
    assert given_id.encode() in codec.outgoing(packets.connack(0))


def test_a_publish_keeps_topic_id_and_payload() -> None:
    codec = opened()
    body = b"\0\3a/b" + b"\0\7" + b"\x02\x01\x01" + b"payload"
    assert codec.incoming(b"\x32" + bytes((len(body),)) + body) == packets.publish(
        b"a/b", b"payload", 1, 7
    )


def test_a_subscribe_keeps_filters_and_qos() -> None:
    codec = opened()
    body = b"\0\x09\0" + b"\0\1a" + b"\x2d" + b"\0\1b" + b"\x02"
    translated = codec.incoming(b"\x82" + bytes((len(body),)) + body)
    assert packets.read_subscribe(translated[2:]) == (9, [("a", 1), ("b", 2)])
    assert codec.outgoing(packets.suback(9, [1, 0x80])) == b"\x90\x05\0\x09\0\x01\x87"


def test_an_unsuback_has_a_reason_for_each_filter() -> None:
    codec = opened()
    body = b"\0\x05\0" + b"\0\1a" + b"\0\1b"
    codec.incoming(b"\xa2" + bytes((len(body),)) + body)
    assert codec.outgoing(packets.answer(0xB0, 5)) == b"\xb0\x05\0\x05\0\0\0"


@pytest.mark.parametrize(("code", "reason"), [(1, 0x84), (3, 0x88), (4, 0x86), (5, 0x87)])
def test_a_refusal_has_a_reason(code: int, reason: int) -> None:
    assert opened().outgoing(packets.connack(code)) == bytes((0x20, 3, 0, reason, 0))


def test_no_more_is_sent_than_the_client_takes_at_once() -> None:
    codec = opened(properties=b"\x21\0\1")
    both = packets.publish(b"t", b"1", 1, 1) + packets.publish(b"t", b"2", 1, 2)
    assert codec.outgoing(both).count(b"\0\1t") == 1
    assert codec.released() == b""
    codec.incoming(packets.answer(packets.PUBACK, 1))
    assert b"2" in codec.released()


def test_a_disconnect_that_wants_its_will_is_told_from_one_that_does_not() -> None:
    assert opened().incoming(b"\xe0\0") == b"\xe0\0"
    assert opened().incoming(b"\xe0\1\0") == b"\xe0\0"
    assert opened().incoming(b"\xe0\1\4") == b"\xe0\1\4"


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\x06\0\0\3\x23\0\1",  # a topic alias
        b"\x82\x09\0\1\2\x0b\x05\0\1a\0",  # a subscription identifier
        b"\x30\x05\0\1t\1\x77",  # an unknown property
        b"\x30\x05\0\1t\x20\x01",  # properties longer than the packet
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\xff\x7f",  # longer than what the server takes
    ],
)
def test_what_breaks_a_rule_ends_the_connection(packet: bytes) -> None:
    with pytest.raises(MalformedPacketError):
        opened().incoming(packet)


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_any_bytes_are_translated_or_refused_whole_or_in_pieces(data: bytes, cut: int) -> None:
    def run(*pieces: bytes) -> bytes | None:
        codec = opened()
        try:
            return b"".join(codec.incoming(piece) for piece in pieces)
        except MalformedPacketError:
            return None

    assert run(data) == run(data[:cut], data[cut:])


def test_the_version_is_told_by_the_first_bytes() -> None:
    assert speaks(b"\0\4MQTT\5\2")
    assert not speaks(b"\0\4MQTT\4\2")
