"""Retained messages and wills."""

from uuid import UUID

import asyncpg

from core.settings import Settings
from tests.broker.conftest import broker_running, broker_settings
from tests.broker.mqtt.client import Client
from tests.broker.mqtt.conftest import Enter
from tests.support.mqtt import AllowAll


async def test_a_new_subscriber_gets_what_is_retained_at_the_lower_qos(enter: Enter) -> None:
    tells = await enter("tells")
    await tells.publish("a/0", b"0", 0, retain=True)
    await tells.publish("a/1", b"1", 1, retain=True)
    await tells.publish("a/2", b"2", 2, retain=True)
    await tells.publish("$a", b"hidden", 1, retain=True)
    hears = await enter("hears")
    await hears.subscribe(("#", 1))
    came = sorted([await hears.take() for _ in range(3)])
    assert [(m.topic, m.payload, m.qos, m.retain) for m in came] == [
        ("a/0", b"0", 0, True),
        ("a/1", b"1", 1, True),
        ("a/2", b"2", 1, True),
    ]
    await hears.nothing()
    await hears.subscribe(("#", 0))  # subscribing again sends it again [MQTT-3.8.4-3]
    assert all([(await hears.message()).retain for _ in range(3)])


async def test_for_a_subscriber_who_is_there_a_retained_message_is_a_plain_one(
    enter: Enter,
) -> None:
    hears, tells = await enter("hears"), await enter("tells")
    await hears.subscribe(("a", 1))
    await tells.publish("a", b"x", 1, retain=True)
    assert not (await hears.take()).retain


async def test_the_newest_is_retained_and_an_empty_one_clears_it(enter: Enter) -> None:
    tells = await enter("tells")
    await tells.publish("a", b"old", 1, retain=True)
    await tells.publish("a", b"new", 1, retain=True)
    await tells.publish("a", b"passing", 1)
    hears = await enter("hears")
    await hears.subscribe(("a", 1))
    assert (await hears.take()).payload == b"new"
    await tells.publish("a", b"", 1, retain=True)
    cleared = await hears.take()
    assert (cleared.payload, cleared.retain) == (b"", False)
    late = await enter("late")
    await late.subscribe(("a", 1))
    await late.nothing()


async def test_retained_messages_survive_a_restart_and_stay_cleared(
    open_broker: Settings,
    enter: Enter,
    anybody: AllowAll,
    sql: "asyncpg.Connection[asyncpg.Record]",
    tenant_id: UUID,
) -> None:
    tells = await enter("tells")
    await tells.publish("kept", b"x", 1, retain=True)
    await tells.publish("cleared", b"x", 1, retain=True)
    await tells.publish("cleared", b"", 1, retain=True)
    rows = await sql.fetch("SELECT topic FROM mqtt_retained WHERE tenant_id = $1", tenant_id)
    assert [row["topic"] for row in rows] == ["kept"]
    other = broker_settings(open_broker)
    async with broker_running(other, anybody), Client(other) as hears:
        await hears.connect("hears")
        await hears.subscribe(("#", 0))
        assert (await hears.message()).topic == "kept"
        await hears.nothing()


async def test_the_will_of_a_client_that_vanishes_is_published_and_retained(
    enter: Enter,
) -> None:
    hears = await enter("hears")
    await hears.subscribe(("wills/#", 1))
    first = await enter("first", will=("wills/1", b"gone"), will_flags=0x08 | 0x20)
    await first.vanish()
    message = await hears.take()
    assert (message.topic, message.payload, message.qos) == ("wills/1", b"gone", 1)
    late = await enter("late")
    await late.subscribe(("wills/1", 0))
    assert (await late.message()).retain


async def test_a_will_is_void_after_disconnect_and_due_after_a_take_over(enter: Enter) -> None:
    hears = await enter("hears")
    await hears.subscribe(("wills/#", 1))
    left = await enter("left", will=("wills/left", b"x"))
    await left.leave()
    await enter("taken", will=("wills/taken", b"x"))
    await enter("taken")
    assert (await hears.take()).topic == "wills/taken"
    await hears.nothing()


async def test_a_client_that_falls_silent_leaves_its_will(enter: Enter) -> None:
    hears = await enter("hears")
    await hears.subscribe(("wills/#", 0))
    silent = await enter("silent", keep_alive=1, will=("wills/silent", b"x"))
    assert (await hears.message()).topic == "wills/silent"
    assert await silent.closed() == b""


async def test_an_empty_will_is_published(enter: Enter) -> None:
    hears = await enter("hears")
    await hears.subscribe(("wills/#", 0))
    await (await enter("empty", will=("wills/empty", b""))).vanish()
    assert (await hears.message()).payload == b""
