"""The reader takes what a broker sends, however it is cut, and refuses what is no MQTT."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.external import packets
from broker.external.packets import Limits, PacketReader, ProtocolError, Publish, Reply
from tests.broker.raw import packet, text

_messages = st.lists(
    st.builds(
        Publish,
        st.binary(min_size=1, max_size=40),
        st.binary(max_size=300),
        st.integers(0, 65_535),
        st.booleans(),
        st.booleans(),
    ),
    max_size=20,
)


def _encoded(message: Publish, *, five: bool) -> bytes:
    header = 0x30 | message.retain | message.again << 3 | (2 if message.packet_id else 0)
    number = message.packet_id.to_bytes(2) if message.packet_id else b""
    properties = packet(0, b"\x23\x00\x05")[1:] if five else b""  # a topic alias
    return packet(header, text(message.topic) + number + properties + message.payload)


@given(_messages, st.booleans(), st.data())
def test_messages_come_out_as_they_went_in_however_the_stream_is_cut(
    messages: list[Publish], five: bool, data: st.DataObject
) -> None:
    stream = b"".join(_encoded(message, five=five) + packets.PINGREQ for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = PacketReader(1000, five=five)
    found: list[Publish | Reply] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert [each for each in found if isinstance(each, Publish)] == messages
    assert len(found) == 2 * len(messages)
    assert reader.rest == b""


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(stream: bytes, five: bool) -> None:
    reader = PacketReader(1000, five=five)
    try:
        reader.feed(stream)
        packets.read_limits(stream)
    except ProtocolError:
        pass
    assert len(reader.rest) <= len(stream)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\xff\x7f",  # longer than what was agreed
        packet(0x34, text("a") + b"\0\1"),  # QoS 2
        packet(0x32, text("a") + b"\0\0"),  # packet id 0
        packet(0x30, b"\0\x09a"),  # a topic longer than the packet
        packet(0x30, b"\0"),
    ],
)
def test_what_is_no_mqtt_is_refused(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        PacketReader(1000, five=False).feed(stream)


def test_the_limits_of_a_server_are_read_among_other_properties() -> None:
    properties = (
        b"\x21\x00\x14"  # receive maximum 20
        b"\x12" + text("assigned") + b"\x26" + text("key") + text("value") + b"\x2a\x00"
        b"\x13\x00\x0a\x27\x00\x01\x00\x00"
    )
    body = b"\0\0" + bytes([len(properties)]) + properties
    assert packets.read_limits(body) == Limits(receive_maximum=20, keep_alive=10, shared=False)
    assert packets.read_limits(b"\0\0\0") == Limits()
