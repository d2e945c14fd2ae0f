"""The broker is killed while a gateway speaks: what was acknowledged is stored, for every device.

And whatever a gateway or an edge node sends, it is acknowledged and the connection goes on.
"""

import asyncio
import itertools
import json
import random
import signal
from typing import Any
from uuid import UUID

import pytest

from core.settings import Settings
from tests.broker.conftest import broker_settings
from tests.broker.dialects.conftest import Sql, configure, dead, named, stored
from tests.broker.dialects.test_sparkplug import TEMPERATURE, bd_seq, message
from tests.broker.ingest.test_triggers import broker_process
from tests.broker.raw import RawClient, publish_packet
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually

DEVICES = ("A", "B", "C")
START = 1_751_649_600_000
LOST = (asyncio.IncompleteReadError, ConnectionError)


@pytest.mark.slow
async def test_what_a_gateway_was_acknowledged_is_stored_through_kills(
    postgres_server: Settings,
    valkey_server: Settings,
    device: MadeDevice,
    sql: Sql,
    tenant_id: UUID,
) -> None:
    await configure(sql, device, gateway={"profile": "engine"})
    settings = broker_settings(postgres_server)
    acknowledged: set[int] = set()
    numbers = itertools.count(1)

    async def speak(client: RawClient) -> None:
        """Send numbered messages of all devices, some at a time, until the end."""
        waiting: set[int] = set()
        while True:
            while len(waiting) < 20:
                number = next(numbers)
                values = {"ts": START + number, "values": {"n": number}}
                body = json.dumps({name: [values] for name in DEVICES}).encode()
                await client.send(publish_packet("v1/gateway/telemetry", body, 1, number))
                waiting.add(number)
            header, body = await client.packet()
            assert header == 0x40
            acknowledged.add(int.from_bytes(body))
            waiting.discard(int.from_bytes(body))

    for enough in (150, 400):
        async with broker_process(settings) as child, RawClient(settings) as client:
            assert await client.sign_in(device) == 0
            talk = asyncio.create_task(speak(client))
            await eventually(
                lambda enough=enough, talk=talk: len(acknowledged) >= enough or talk.done(),
                timeout=60,
                interval=0.001,
            )
            child.send_signal(signal.SIGKILL)
            with pytest.raises(LOST):
                await asyncio.wait_for(talk, 30)
    for name in DEVICES:
        found = await named(sql, tenant_id, name)
        assert found is not None
        kept = [int(n) for n in (await stored(sql, found))["n"] if n is not None]
        assert acknowledged <= set(kept)
        assert len(kept) == len(set(kept))


TOPICS = (
    "v1/devices/me/telemetry",
    "v1/devices/me/attributes",
    "v1/devices/me/attributes/request/1",
    "v1/devices/me/rpc/request/1",
    "v1/devices/me/rpc/response/1",
    "v1/devices/me/claim",
    "v2/fw/request/1/chunk/0",
    "v1/gateway/connect",
    "v1/gateway/disconnect",
    "v1/gateway/telemetry",
    "v1/gateway/attributes",
    "v1/gateway/attributes/request",
    "v1/gateway/rpc",
    "v1/gateway/claim",
)
SEEDS: tuple[Any, ...] = (
    {},
    [],
    {"device": "A"},
    {"device": "\0"},
    {"\0": {"a": 1}},
    {"device": "A", "type": "engine"},
    {"device": "A", "id": 1, "client": True, "key": "a"},
    {"device": "A", "id": 1, "data": {"x": "\0"}},
    {"A": [{"ts": START, "values": {"a": 1, "s": "\0"}}], "B": {"a": {"x": ["\0"]}}},
    {"A": {"secretKey": "s", "durationMs": 5}, "B": None},
    {"method": "m", "params": {"x": "\0"}},
    {"method": "getCurrentTime"},
    {"secretKey": "s", "durationMs": 10**30},
    {"clientKeys": "a,b", "sharedKeys": ["\0"]},
)


def mangled(chance: random.Random, seed: bytes) -> bytes:
    """Return bytes with some of them changed, cut or doubled."""
    data = bytearray(seed)
    for _ in range(chance.choice((0, 0, 1, 2))):
        if data:
            position = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[position] = chance.randrange(256)
                case 1:
                    del data[position:]
                case _:
                    data[position:position] = data[:position]
    return bytes(data)


async def test_whatever_is_said_is_acknowledged_and_the_connection_goes_on(
    broker: Settings, device: MadeDevice, sql: Sql, tenant_id: UUID
) -> None:
    await configure(sql, device, gateway={"profile": "engine", "max_children": 20})
    chance = random.Random(7)
    seeds = [json.dumps(seed).encode() for seed in SEEDS]
    async with RawClient(broker) as client:
        assert await client.sign_in(device) == 0
        for number in range(1, 1001):
            payload = mangled(chance, chance.choice(seeds))
            await client.send(publish_packet(chance.choice(TOPICS), payload, 1, number))
            assert await client.packet() == (0x40, number.to_bytes(2))
    codes = {code for code, _ in await dead(sql, device.id)}
    assert "not_json" in codes
    assert "not_storable" not in codes


async def test_whatever_a_node_says_is_acknowledged_and_the_connection_goes_on(
    broker: Settings, device: MadeDevice, sql: Sql
) -> None:
    await configure(sql, device, sparkplug={"edge": "e", "profile": "engine"})
    chance = random.Random(7)
    seeds = (
        message(bd_seq(0), TEMPERATURE, seq=0),
        message(TEMPERATURE, seq=1),
        message({"name": "s\0", "double_value": 1.0}, seq=2),
        message({"alias": 1, "string_value": "x\0"}, {"name": "s", "string_value": "\0"}, seq=2),
        message(bd_seq(0), sent=None),
    )
    kinds = ("NBIRTH", "NDATA", "NDEATH", "DBIRTH/", "DDATA/", "DDEATH/", "DDATA", "NCMD", "\0")
    async with RawClient(broker) as client:
        assert await client.sign_in(device) == 0
        for number in range(1, 1001):
            kind = chance.choice(kinds)
            topic = f"spBv1.0/g/{kind.strip('/')}/e" + ("/d" if kind.endswith("/") else "")
            payload = mangled(chance, chance.choice(seeds))
            await client.send(publish_packet(topic, payload, 1, number))
            assert await client.packet() == (0x40, number.to_bytes(2))
    codes = {code for code, _ in await dead(sql, device.id)}
    assert {"not_sparkplug", "invalid_topic"} <= codes
    assert "not_storable" not in codes
