"""SUBSCRIBE and UNSUBSCRIBE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from broker.mqtt import packets
from broker.mqtt.sessions import MAX_FILTERS
from core.topic_filters import MAX_TOPIC, valid_filter
from core.topics_acl import Grant, Rights

if TYPE_CHECKING:
    from broker.mqtt.connection import Connection

_log = structlog.get_logger(__name__)

_SHOWN: Final = 3
"""Denied filters of a packet that are logged."""


def subscribe(
    connection: Connection,
    rights: Rights,
    packet_id: int,
    wanted: list[tuple[str, int]],
) -> None:
    """Grant what the client may hear, and send what waits for it there.

    The SUBACK of a lasting session means that its subscriptions are committed.
    """
    session = connection.session
    filters = session.filters
    codes: list[int] = []
    shared: list[tuple[str, int]] = []
    denied: list[str] = []
    own: list[str] = []
    for topic_filter, qos in wanted:
        full = len(filters) >= MAX_FILTERS and topic_filter not in filters
        grant = Grant.DENIED
        if not full and valid_filter(topic_filter):
            grant = rights.grant(topic_filter)
        if grant is Grant.DENIED:
            denied.append(topic_filter)
            codes.append(packets.DENIED)
            continue
        session.subscribe(topic_filter, qos, shared=grant is Grant.SHARED)
        codes.append(qos)
        if grant is Grant.SHARED:
            shared.append((topic_filter, qos))
        else:
            own.append(topic_filter)
    if denied:
        # One line a packet: it may have thousands of filters, of half a kilobyte each.
        _log.info(
            "denied",
            device_id=str(connection.device.id),
            filters=[topic_filter[:MAX_TOPIC] for topic_filter in denied[:_SHOWN]],
            count=len(denied),
        )
    answer = packets.suback(packet_id, codes)

    def tell() -> None:
        connection.write(answer)
        if own:
            connection.server.subscribed(connection, own)

    if session.id is None or not (own or shared):
        tell()
    else:
        part = connection.part()
        part.sessions().filters[session.id] = session.written_filters()
        part.then(tell)
    for topic_filter, qos in shared:
        connection.server.router.send_retained(connection.part(), session, topic_filter, qos)


def unsubscribe(connection: Connection, packet_id: int, unwanted: list[str]) -> None:
    """Drop subscriptions; what is on its way already still comes (3.10.4)."""
    session = connection.session
    for topic_filter in unwanted:
        session.unsubscribe(topic_filter)
    answer = packets.answer(0xB0, packet_id)
    if session.id is None:
        connection.write(answer)
    else:
        part = connection.part()
        part.sessions().filters[session.id] = session.written_filters()
        part.then(lambda: connection.write(answer))
