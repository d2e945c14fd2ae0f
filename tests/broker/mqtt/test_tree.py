"""The trees find what a plain comparison of filter and topic finds."""

from hypothesis import given
from hypothesis import strategies as st

from broker.mqtt.tree import NameTree, TopicTree
from core.topic_filters import matches, valid_filter, valid_topic

names = st.lists(st.sampled_from(["a", "b", "", "$a"]), min_size=1, max_size=4).map("/".join)
filters = (
    st.lists(st.sampled_from(["a", "b", "", "+", "#", "$a"]), min_size=1, max_size=4)
    .map("/".join)
    .filter(valid_filter)
)
wants = st.lists(st.tuples(filters, st.integers(0, 4), st.integers(0, 2)), max_size=12)


@given(wants, names)
def test_subscribers_are_found_at_their_highest_qos(
    wanted: list[tuple[str, int, int]], topic: str
) -> None:
    tree: TopicTree[int] = TopicTree()
    held: dict[tuple[str, int], int] = {}
    for topic_filter, who, qos in wanted:
        tree.add(topic_filter, who, qos)
        held[topic_filter, who] = qos
    expected: dict[int, int] = {}
    for (topic_filter, who), qos in held.items():
        if matches(topic_filter, topic):
            expected[who] = max(expected.get(who, 0), qos)
    assert tree.match(topic) == expected
    assert len(tree) == len(held)


@given(wants, names)
def test_nothing_is_left_after_unsubscribing(
    wanted: list[tuple[str, int, int]], topic: str
) -> None:
    tree: TopicTree[int] = TopicTree()
    for topic_filter, who, qos in wanted:
        tree.add(topic_filter, who, qos)
    for topic_filter, who, _ in wanted:
        tree.remove(topic_filter, who)
    assert tree.match(topic) == {}
    assert len(tree) == 0
    assert tree._root.children == {}


@given(st.sets(names, max_size=10), filters, st.data())
def test_names_are_found_by_filter(there: set[str], topic_filter: str, data: st.DataObject) -> None:
    tree = NameTree()
    for name in there:
        tree.add(name)
    gone = data.draw(st.sets(st.sampled_from(sorted(there)))) if there else set()
    for name in gone:
        tree.remove(name)
    found = list(tree.matching(topic_filter))
    assert sorted(found) == sorted(n for n in there - gone if matches(topic_filter, n))


def test_the_examples_of_the_standard() -> None:
    assert matches("sport/tennis/player1/#", "sport/tennis/player1")
    assert matches("sport/#", "sport")
    assert not matches("sport/+", "sport")
    assert matches("sport/+", "sport/")
    assert matches("/+", "/finance")
    assert matches("+/+", "/finance")
    assert not matches("+", "/finance")
    assert not matches("#", "$SYS/x")
    assert not matches("+/monitor/Clients", "$SYS/monitor/Clients")
    assert matches("$SYS/#", "$SYS/x")


def test_filters_and_names_that_are_none() -> None:
    bad = ("", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0b", "$share/g/a", "a" * 513, "/" * 128)
    assert [f for f in bad if valid_filter(f)] == []
    names = (b"", b"a/+", b"#", b"a\0", b"\xff", b"a" * 513, b"/" * 128)
    assert [n for n in names if valid_topic(n) is not None] == []
    assert valid_filter("/+/a b/ä/#")
    assert valid_topic("/a b/ä".encode()) == "/a b/ä"
