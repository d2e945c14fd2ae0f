"""Sessions that outlive their connection, and those that do not."""

import gc
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from broker.mqtt.connection import Connection
from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings
from tests.broker.mqtt.client import PUBACK, PUBCOMP, PUBREC, PUBREL, Client
from tests.broker.mqtt.conftest import Enter
from tests.broker.raw import RawClient, connect_packet, publish_packet
from tests.support.mqtt import AllowAll
from tests.support.tenants import MadeDevice
from tests.support.waiting import eventually


async def test_what_came_while_it_was_away_is_delivered_in_order(enter: Enter) -> None:
    hears, tells = await enter("hears", clean=False), await enter("tells")
    await hears.subscribe(("a/#", 2))
    await hears.leave()
    for number, qos in enumerate((1, 2, 0, 1, 2)):
        await tells.publish("a/b", b"%d" % number, qos, number + 1)
    back = await enter("hears", clean=False, present=True)
    came = [await back.take() for _ in range(4)]
    # QoS 0 is not queued.
    assert [(m.payload, m.qos, m.dup) for m in came] == [
        (b"0", 1, False),
        (b"1", 2, False),
        (b"3", 1, False),
        (b"4", 2, False),
    ]
    await back.nothing()


async def test_what_was_not_acknowledged_comes_again_as_a_duplicate(enter: Enter) -> None:
    hears, tells = await enter("hears", clean=False), await enter("tells")
    await hears.subscribe(("a", 2))
    await tells.publish("a", b"1", 1)
    await tells.publish("a", b"2", 2)
    await tells.publish("a", b"3", 2)
    first = [await hears.message() for _ in range(3)]
    assert not any(m.dup for m in first)
    await hears.answer(PUBREC, first[1].packet_id)
    await hears.expect(PUBREL, first[1].packet_id)
    await hears.vanish()
    back = await enter("hears", clean=False, present=True)
    again = await back.message()
    assert (again.payload, again.dup, again.packet_id) == (b"1", True, first[0].packet_id)
    await back.expect(PUBREL, first[1].packet_id)  # its PUBLISH is over
    third = await back.message()
    assert (third.payload, third.dup, third.packet_id) == (b"3", True, first[2].packet_id)


async def test_a_clean_session_ends_with_its_connection_and_ends_an_older_one(
    enter: Enter,
) -> None:
    hears, tells = await enter("hears", clean=False), await enter("tells")
    await hears.subscribe(("a", 1))
    await hears.leave()
    await tells.publish("a", b"x")
    clean = await enter("hears")
    await clean.nothing()
    await clean.subscribe(("b", 1))
    await clean.leave()
    back = await enter("hears", clean=False)
    await tells.publish("b", b"x")
    await back.nothing()


async def test_a_new_connection_takes_over_with_all_there_is(enter: Enter) -> None:
    first, tells = await enter("one", clean=False), await enter("tells")
    await first.subscribe(("a", 1))
    await tells.publish("a", b"x")
    assert (await first.message()).payload == b"x"
    second = await enter("one", clean=False, present=True)
    await first.closed()
    again = await second.take()
    assert (again.payload, again.dup) == (b"x", True)
    await tells.publish("a", b"y")
    assert (await second.take()).payload == b"y"


async def test_without_a_client_id_there_is_no_lasting_session(open_broker: Settings) -> None:
    async with RawClient(open_broker) as client:
        await client.send(connect_packet(None, None, client="", clean=False))
        assert await client.packet() == (0x20, b"\0\2")
        assert await client.closed() == b""
    async with RawClient(open_broker) as one, RawClient(open_broker) as two:
        for client in (one, two):
            await client.send(connect_packet(None, None, client=""))
            assert await client.packet() == (0x20, b"\0\0")
        await one.send(b"\xc0\0")
        assert await one.packet() == (0xD0, b"")


async def test_sessions_and_what_they_owe_survive_a_restart(
    open_broker: Settings, enter: Enter, anybody: AllowAll
) -> None:
    hears, tells = await enter("hears", clean=False), await enter("tells", clean=False)
    await hears.subscribe(("a", 2))
    await tells.publish("a", b"0", 2)
    await tells.publish("a", b"1", 2)
    await tells.publish("a", b"2", 1)
    sent = [await hears.message() for _ in range(3)]
    await hears.answer(PUBREC, sent[0].packet_id)
    await hears.expect(PUBREL, sent[0].packet_id)
    await tells.send(publish_packet("a", b"3", 2, 77))
    await tells.expect(PUBREC, 77)
    # The first broker is still running: nothing is written at its stop that could help.
    other = broker_settings(open_broker)
    async with broker_running(other, anybody), Client(other) as hears, Client(other) as tells:
        await tells.connect("tells", clean=False, present=True)
        await tells.send(publish_packet("a", b"3", 2, 77, dup=True))
        await tells.expect(PUBREC, 77)
        await tells.answer(PUBREL, 77)
        await tells.expect(PUBCOMP, 77)
        await tells.publish("a", b"4", 1)
        await hears.connect("hears", clean=False, present=True)
        await hears.expect(PUBREL, sent[0].packet_id)
        await hears.answer(PUBCOMP, sent[0].packet_id)
        came = [await hears.take() for _ in range(4)]
        assert [m.payload for m in came] == [b"1", b"2", b"3", b"4"]
        assert [m.packet_id for m in came[:2]] == [m.packet_id for m in sent[1:]]
        # The last was never sent, but read back: the first process might have had the session.
        assert [m.dup for m in came[:3]] == [True, True, True]
        await hears.nothing()
    third = broker_settings(open_broker)
    async with broker_running(third, anybody), Client(third) as hears:
        await hears.connect("hears", clean=False, present=True)
        await hears.nothing()


async def test_an_acknowledged_publish_is_committed_for_whoever_is_away(
    enter: Enter, sql: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID
) -> None:
    hears, tells = await enter("hears", clean=False), await enter("tells")
    await hears.subscribe(("a", 1))
    await hears.leave()
    await tells.publish("a", b"x")
    count = "SELECT count(*) FROM mqtt_messages WHERE tenant_id = $1"
    assert await sql.fetchval(count, tenant_id) == 1
    back = await enter("hears", clean=False, present=True)
    message = await back.message()
    await back.answer(PUBACK, message.packet_id)
    await back.subscribe(("c", 1))  # its SUBACK comes after the commit of the PUBACK
    assert await sql.fetchval(count, tenant_id) == 0


async def test_a_deleted_device_takes_its_sessions_along(
    enter: Enter,
    sql: "asyncpg.Connection[asyncpg.Record]",
    device: MadeDevice,
    tenant_id: UUID,
) -> None:
    hears, tells = await enter("hears", clean=False), await enter("tells")
    await hears.subscribe(("a", 1))
    await sql.execute("DELETE FROM devices WHERE id = $1", device.id)
    await tells.publish("a", b"x")
    assert (await hears.take()).payload == b"x"
    for table in ("mqtt_sessions", "mqtt_messages"):
        query = f"SELECT count(*) FROM {table} WHERE tenant_id = $1"
        assert await sql.fetchval(query, tenant_id) == 0


async def test_a_session_that_was_away_for_too_long_is_forgotten(
    open_broker: Settings,
    enter: Enter,
    anybody: AllowAll,
    sql: "asyncpg.Connection[asyncpg.Record]",
    tenant_id: UUID,
) -> None:
    hears = await enter("hears", clean=False)
    await hears.subscribe(("a", 1))
    await hears.leave()
    await enter("other", clean=False)  # committed after the departure of the first
    await sql.execute(
        "UPDATE mqtt_sessions SET away_since = $2 WHERE tenant_id = $1 AND client_id = 'hears'",
        tenant_id,
        datetime.now(UTC) - timedelta(hours=2),
    )
    other = broker_settings(open_broker)
    async with broker_running(other, anybody), Client(other) as back:

        async def forgotten() -> bool:
            query = "SELECT count(*) FROM mqtt_sessions WHERE tenant_id = $1"
            return await sql.fetchval(query, tenant_id) == 1

        await eventually(forgotten)
        await back.connect("hears", clean=False)


async def test_a_closed_connection_is_freed_without_the_collector(enter: Enter) -> None:
    def alive() -> int:
        return sum(isinstance(found, Connection) for found in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        for number in range(20):
            client = await enter(f"passing-{number}")
            await client.subscribe(("some/topic", 1))
            await client.publish("some/topic", b"x", 0)
            await client.leave()
        await eventually(lambda: alive() <= before + 2)
    finally:
        gc.enable()
