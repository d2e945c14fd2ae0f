"""MQTT packets that no client should send: mutated, malformed, oversized, imagined.

Everything follows from the seed, so that a run can be repeated.
"""

import json
import random
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.broker.raw import connect_packet, packet, publish_packet, subscribe_packet, text

_LONGEST_TEXT: Final = 65_535
_BAD_TEXT: Final = (
    b"\xff\xfe",
    b"\xc0\xaf",  # overlong
    b"\xed\xa0\x80",  # a surrogate [MQTT-1.5.3-1]
    b"a\x00b",  # U+0000 [MQTT-1.5.3-2]
    b"\xf4\x90\x80\x80",  # beyond Unicode
    b"\xef\xbb\xbf",  # a byte order mark, which is text
)


class HostilePackets:
    """Makes packets as a signed-in device would send them, most of them wrong.

    Attributes:
        made: How many of each kind were made.
    """

    def __init__(
        self, number: int, device_id: UUID, key: str, other: UUID, made_up: Sequence[bytes]
    ) -> None:
        """Prepare.

        Args:
            number: The seed.
            device_id: The device that is signed in.
            key: Its key.
            other: A device of somebody else.
            made_up: Packets from `imagined`.
        """
        self._random = random.Random(number)
        self._device, self._key, self._other = device_id, key, other
        self._imagined = made_up
        self._payloads = self._jsons()
        self.made: dict[str, int] = {}
        self._kinds: tuple[tuple[str, Callable[[], bytes]], ...] = (
            ("mutated", self._mutated),
            ("mutated", self._mutated),
            ("mutated", self._mutated),
            ("valid", self._valid),
            ("imagined", self._of_imagination),
            ("length", self._length),
            *((name, partial(self._one_of, packets)) for name, packets in self._prepared().items()),
        )

    def _prepared(self) -> dict[str, list[bytes]]:
        """Return the kinds that are made once: some take a millisecond each."""
        return {
            "topic": self._topics(),
            "text": self._texts(),
            "json": self._payloads,
            "flow": self._flows(),
            "subscribe": self._subscribes(),
        }

    def _one_of(self, packets: Sequence[bytes]) -> bytes:
        return self._random.choice(packets)

    def burst(self, harmless: int) -> tuple[list[bytes], bytes]:
        """Return what one connection sends, and what may follow unread.

        Most wrong packets end a connection. So the first part has at most one of them, as the last
        packet: a broker reads all of it. The second part has some more, for parsers that look
        ahead.

        Args:
            harmless: Packets at most before the wrong one: valid or with a wrong payload only.
        """
        rest = b"".join(self._next() for _ in range(self._random.randrange(4)))
        if self._random.random() < 0.2:
            return [self._count("connect", self._wrong_connect())], rest
        accepted = connect_packet(
            str(self._device), self._key, client=f"c{self._random.randrange(1_000)}"
        )
        before = [self._harmless() for _ in range(self._random.randint(0, harmless))]
        return [accepted, *before, self._next()], rest

    def _wrong_connect(self) -> bytes:
        choice = self._random.random()
        will = (f"v1/devices/{self._other}/telemetry", b"{}") if choice < 0.1 else None
        right = connect_packet(str(self._device), self._key, will=will)
        if choice < 0.6:
            return right if will else self._mutate(right)
        return connect_packet(
            self._random.choice([None, "", "x" * 60_000, str(self._other)]),
            self._random.choice([None, "wrong"]),
            client=self._random.choice(["", "y" * 60_000]),
            clean=self._random.random() < 0.5,
            level=self._random.choice([3, 4, 5, 0, 255]),
        )

    def _harmless(self) -> bytes:
        """Return a packet that is MQTT; its payload need not be telemetry."""
        choice = self._random.random()
        if choice < 0.3:
            return self._count("valid", self._valid())
        if choice < 0.6:
            return self._count("json", self._random.choice(self._payloads))
        payload = self._mutate(b'{"ts":1764020000000,"values":{"temperature":21.5,"mode":"eco"}}')
        topic = f"v1/devices/{self._device}/{self._random.choice(('telemetry', 'attributes'))}"
        return self._count("payload", publish_packet(topic, payload, 1, 3))

    def _count(self, name: str, packet: bytes) -> bytes:
        self.made[name] = self.made.get(name, 0) + 1
        return packet

    def _next(self) -> bytes:
        """Return one packet of any kind."""
        name, make = self._random.choice(self._kinds)
        return self._count(name, make())

    # --- kinds -------------------------------------------------------------------------------

    def _valid(self) -> bytes:
        random = self._random
        own = f"v1/devices/{random.choice([self._device, 'me'])}/"
        number = random.randint(1, _LONGEST_TEXT)
        return random.choice(
            (
                lambda: publish_packet(
                    own + "telemetry",
                    b'{"values":{"temperature":%d}}' % random.randrange(100),
                    random.randrange(3),
                    number,
                ),
                lambda: publish_packet(own + "attributes", b'{"mode":"eco"}', 1, number),
                lambda: publish_packet(own + "events", b'{"name":"failure"}', 1, number),
                lambda: publish_packet(own + "commands/stop/response", b'{"id":"x"}', 1, number),
                lambda: subscribe_packet((own + "commands/+", random.randrange(3))),
                lambda: packet(0xA2, struct.pack(">H", number) + text(own + "commands/+")),
                lambda: packet(0x62, struct.pack(">H", number)),
                lambda: packet(0x40, struct.pack(">H", number)),
                lambda: b"\xc0\x00",
            )
        )()

    def _mutated(self) -> bytes:
        return self._mutate(self._valid())

    def _mutate(self, packet: bytes) -> bytes:
        random = self._random
        data = bytearray(packet)
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            place = random.randrange(len(data)) if data else 0
            match random.randrange(8):
                case 0:
                    data[place : place + 1] = bytes([random.randrange(256)])
                case 1:
                    data[place:place] = random.randbytes(random.choice((1, 2, 40)))
                case 2:
                    del data[place : place + random.choice((1, 2, 20))]
                case 3:
                    del data[place:]
                case 4:
                    data += data[place:]
                case 5 if data:
                    data[place] ^= 1 << random.randrange(8)
                case 6:
                    data[:1] = bytes([random.randrange(256)])
                case _:
                    data[1:2] = bytes([random.randrange(256)])
        return bytes(data)

    def _of_imagination(self) -> bytes:
        return self._random.choice(self._imagined)

    def _length(self) -> bytes:
        """A remaining length that is huge, too long, or not that of the packet."""
        random = self._random
        header = random.choice((0x10, 0x30, 0x32, 0x82, 0xC0, random.randrange(256)))
        length = random.choice(
            (
                b"\xff\xff\xff\x7f",
                b"\xff\xff\xff\xff\x7f",
                b"\x80\x80\x80\x80\x01",
                b"\x80\x00",
                b"\xff\x7f",
                b"\xff\xff\x03",
                b"\x00",
            )
        )
        return bytes([header]) + length + random.randbytes(random.choice((0, 1, 200)))

    def _topics(self) -> list[bytes]:
        own = f"v1/devices/{self._device}/telemetry"
        topics = (
            "/" * _LONGEST_TEXT,
            "a/" * 30_000,
            "x" * _LONGEST_TEXT,
            "",
            "#",
            "+/+/+/+",
            "$SYS/broker",
            "$share/g/" + own,
            own + "/",
            own + "/" * 400,
            f"v1/devices/{self._other}/telemetry",
            f"v1/devices/{self._device}/commands/{'n' * 400}/response",
            f"v1/devices/{self._device}/commands/a/b/response",
            own.upper(),
        )
        return [publish_packet(t, b'{"temperature":1}', qos, 7) for t in topics for qos in range(3)]

    def _texts(self) -> list[bytes]:
        own = f"v1/devices/{self._device}/".encode()
        return [
            made
            for bad in _BAD_TEXT
            for made in (
                publish_packet(own + bad, b"{}", 1, 9),
                publish_packet(own + b"commands/" + bad + b"/response", b"{}", 1, 9),
                publish_packet(own + b"telemetry", b'{"' + bad + b'":1}', 1, 9),
                publish_packet(own + b"attributes", b'{"a":"' + bad + b'"}', 1, 9),
                packet(0x82, b"\0\x09" + text(own + bad) + b"\x01"),
                packet(0xA2, b"\0\x09" + text(bad)),
            )
        ]

    def _jsons(self) -> list[bytes]:
        payloads = (
            b"[" * 3_000,
            b'{"a":' * 5_000,
            b'{"a":1e999}',
            b'{"a":-' + b"9" * 5_000 + b"}",
            b'{"ts":9223372036854775808,"a":1}',
            b'{"ts":"9999-12-31T23:59:59.999999999Z","a":1}',
            b'{"values":{' + b'"a":1,' * 2_000 + b'"a":2}}',
            json.dumps({f"m{n}": n for n in range(1_100)}).encode(),
            json.dumps([{"ts": n, "values": {"a": n}} for n in range(100)]).encode(),
            b'{"a":"' + b"\\u0000" * 100 + b'"}',
            b'{"a":NaN,"b":Infinity}',
            b"\x00" * 2_000,
            self._random.randbytes(2_000),
            b"",
        )
        return [
            publish_packet(f"v1/devices/{self._device}/{rest}", payload, 1, 11)
            for payload in payloads
            for rest in ("telemetry", "attributes", "events")
        ]

    def _flows(self) -> list[bytes]:
        """Out of turn: acknowledgements nobody waits for, ids of zero, QoS 3, a second CONNECT."""
        own = f"v1/devices/{self._device}/telemetry"
        numbers = [struct.pack(">H", number) for number in (0, 1, 77, _LONGEST_TEXT)]
        return [
            *(packet(kind, n) for kind in (0x40, 0x50, 0x62, 0x70, 0x60) for n in numbers),
            publish_packet(own, b'{"a":1}', 1, 0),
            publish_packet(own, b'{"a":1}', 2, 0),
            publish_packet(own, b'{"a":1}', 3, 5),
            packet(0x38, text(own) + b'{"a":1}'),
            connect_packet(str(self._device), self._key),
            packet(0x20, b"\0\0"),
            packet(0x90, b"\0\1\0"),
            packet(0xC0, b"x"),
            packet(0xE0, b"x"),
            packet(0xF0, b""),
            packet(0x00, b""),
            packet(0x32, b"\0"),
        ]

    def _subscribes(self) -> list[bytes]:
        own = f"v1/devices/{self._device}/"
        return [
            packet(0x82, b"\0\1"),
            packet(0x82, b"\0\0" + text(own + "errors") + b"\0"),
            subscribe_packet((own + "errors", 3)),
            subscribe_packet(*((own + f"commands/{n}", 1) for n in range(600))),
            subscribe_packet(*(("#", 0) for _ in range(5_000))),
            subscribe_packet(*((own + "+/" * 200 + "#", 0) for _ in range(60))),
            packet(0x80, b"\0\1" + text(own + "errors") + b"\0"),
            packet(0x82, b"\0\1" + text("x" * 30_000) + b"\0"),
            packet(0xA2, b"\0\1" + b"".join(text("a/b") for _ in range(5_000))),
            subscribe_packet((f"v1/devices/{self._other}/#", 1), ("$share/a/b", 1)),
        ]


# --- what hypothesis imagines ------------------------------------------------------------------

_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)
_FIELD: Final = st.one_of(
    st.text(max_size=60).map(lambda value: text(value.encode(errors="surrogatepass"))),
    st.binary(max_size=60).map(text),
    st.tuples(st.integers(0, _LONGEST_TEXT), st.binary(max_size=30)).map(
        lambda pair: struct.pack(">H", pair[0]) + pair[1]
    ),
    st.integers(0, _LONGEST_TEXT).map(lambda number: struct.pack(">H", number)),
    st.integers(0, 255).map(lambda number: bytes([number])),
    _JSON.map(lambda value: json.dumps(value).encode(errors="surrogatepass")),
    st.just(text("MQTT") + b"\x04\xc2\x00\x3c"),
    st.just(text("v1/devices/me/telemetry")),
    st.just(text("v1/devices/me/attributes")),
)
_BODY: Final = st.lists(_FIELD, max_size=6).map(b"".join)

PACKETS: Final = st.one_of(
    st.tuples(st.integers(0, 255), _BODY).map(lambda parts: packet(*parts)),
    st.tuples(st.integers(0, 255), st.binary(min_size=1, max_size=5), _BODY).map(
        lambda parts: bytes([parts[0]]) + parts[1] + parts[2]
    ),
)
"""Any header with a body of plausible fields, and the same with any bytes for its length."""


def imagined(count: int, number: int) -> list[bytes]:
    """Return packets that hypothesis makes up, the same ones for the same seed."""
    found: list[bytes] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(PACKETS)
    def collect(packet: bytes) -> None:
        found.append(packet)

    collect()
    return found
