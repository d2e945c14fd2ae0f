"""Messages between clients: who gets what, at which QoS, in which order."""

from core.settings import Settings
from tests.broker.conftest import metric
from tests.broker.mqtt.client import PUBACK, PUBCOMP, PUBREC, PUBREL, Message
from tests.broker.mqtt.conftest import Enter
from tests.broker.raw import packet, publish_packet, text


def seen(message: Message) -> tuple[str, bytes, int]:
    return message.topic, message.payload, message.qos


async def test_each_qos_arrives_at_the_lower_of_the_two(enter: Enter) -> None:
    hears, tells = await enter("hears"), await enter("tells")
    assert await hears.subscribe(("q/0", 0), ("q/1", 1), ("q/2", 2)) == [0, 1, 2]
    for granted in (0, 1, 2):
        for qos in (0, 1, 2):
            await tells.publish(f"q/{granted}", b"x", qos)
            assert seen(await hears.take()) == (f"q/{granted}", b"x", min(qos, granted))


async def test_a_client_hears_itself_and_nobody_else_without_subscription(enter: Enter) -> None:
    client, other = await enter("one"), await enter("other")
    await client.subscribe(("a", 0))
    await client.publish("a", b"x", 0)
    assert seen(await client.message()) == ("a", b"x", 0)
    await client.publish("b", b"x", 0)
    await client.nothing()
    await other.nothing()


async def test_overlapping_subscriptions_bring_one_message_at_the_highest_qos(
    enter: Enter,
) -> None:
    client, tells = await enter("one"), await enter("tells")
    await client.subscribe(("a/#", 0), ("a/+", 2), ("a/b", 1))
    await tells.publish("a/b", b"x", 2)
    assert (await client.take()).qos == 2
    await client.nothing()


async def test_subscribing_again_replaces_the_qos(enter: Enter) -> None:
    client, tells = await enter("one"), await enter("tells")
    await client.subscribe(("a", 2))
    await client.subscribe(("a", 0))
    await tells.publish("a", b"x", 1)
    assert (await client.take()).qos == 0


async def test_after_unsubscribing_nothing_comes(enter: Enter) -> None:
    client, tells = await enter("one"), await enter("tells")
    await client.subscribe(("a", 1), ("b", 1))
    await client.send(packet(0xA2, b"\0\7" + text("a") + text("never")))
    await client.expect(0xB0, 7)
    await tells.publish("a", b"x")
    await tells.publish("b", b"y")
    assert seen(await client.take()) == ("b", b"y", 1)


async def test_topics_with_a_dollar_are_not_for_leading_wildcards(enter: Enter) -> None:
    client, tells = await enter("one"), await enter("tells")
    await client.subscribe(("#", 0), ("+/b", 0))
    await tells.publish("$a/b", b"x")
    await client.nothing()
    await client.subscribe(("$a/#", 0))
    await tells.publish("$a/b", b"x")
    assert (await client.message()).topic == "$a/b"


async def test_what_is_not_granted_is_told_so_and_shared_subscriptions_are_not(
    enter: Enter,
) -> None:
    client, tells = await enter("one"), await enter("tells")
    wanted = ("test/nosubscribe", "$share/g/a", "a/#/b", "a+", "ok")
    assert await client.subscribe(*((f, 1) for f in wanted)) == [0x80, 0x80, 0x80, 0x80, 1]
    await tells.publish("a", b"x")
    await client.nothing()


async def test_a_denied_publish_closes_and_is_not_acknowledged(enter: Enter) -> None:
    client, hears = await enter("one"), await enter("hears")
    await hears.subscribe(("#", 0))
    await client.send(publish_packet("test/nopublish", b"x"))
    assert await client.closed() == b""
    await hears.nothing()


async def test_a_publish_to_a_wildcard_closes(enter: Enter) -> None:
    client = await enter("one")
    await client.send(publish_packet("a/#", b"x"))
    assert await client.closed() == b""


async def test_the_order_of_one_publisher_is_kept(enter: Enter) -> None:
    hears, tells = await enter("hears"), await enter("tells")
    await hears.subscribe(("a/+", 1))
    sent = [publish_packet(f"a/{n % 3}", b"%d" % n, 1, n + 1) for n in range(250)]
    await tells.send(*sent)
    for number in range(250):
        await tells.expect(PUBACK, number + 1)
    assert [int((await hears.take()).payload) for _ in range(250)] == list(range(250))


async def test_no_more_than_a_window_is_under_way(enter: Enter) -> None:
    hears, tells = await enter("hears"), await enter("tells")
    await hears.subscribe(("a", 1))
    await tells.send(*(publish_packet("a", b"%d" % n, 1, n + 1) for n in range(150)))
    first = [await hears.message() for _ in range(100)]
    assert len({m.packet_id for m in first}) == 100
    await hears.nothing()
    await hears.answer(PUBACK, first[0].packet_id)
    assert (await hears.message()).payload == b"100"
    await hears.nothing()


async def test_qos_2_is_delivered_once_however_often_it_is_sent(enter: Enter) -> None:
    hears, tells = await enter("hears"), await enter("tells")
    await hears.subscribe(("a", 2))
    await tells.send(publish_packet("a", b"x", 2, 5))
    await tells.expect(PUBREC, 5)
    await tells.send(publish_packet("a", b"x", 2, 5, dup=True))
    await tells.expect(PUBREC, 5)
    await tells.answer(PUBREL, 5)
    await tells.expect(PUBCOMP, 5)
    assert seen(await hears.take()) == ("a", b"x", 2)
    await hears.nothing()


async def test_a_slow_client_loses_qos_0_and_is_not_waited_for(
    open_broker: Settings, enter: Enter
) -> None:
    slow, tells = await enter("slow"), await enter("tells")
    await slow.subscribe(("a", 0))
    for number in range(120):
        await tells.publish("a", b"x" * 100_000, 1, number + 1)
    assert await metric(open_broker, "iotlinker_messages_dropped_total") > 0
    await tells.nothing()


async def test_a_full_queue_refuses_the_newest_and_counts_them(
    open_broker: Settings, enter: Enter
) -> None:
    hears, tells = await enter("hears"), await enter("tells")
    await hears.subscribe(("a", 1))
    await tells.send(*(publish_packet("a", b"%d" % n, 1, n + 1) for n in range(1010)))
    for number in range(1010):
        await tells.expect(PUBACK, number + 1)
    assert await metric(open_broker, "iotlinker_messages_dropped_total") == 10
    assert [int((await hears.take()).payload) for _ in range(1000)] == list(range(1000))
    await hears.nothing()
