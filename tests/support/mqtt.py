"""Lets the MQTT server be tried as a broker in general, beyond what a device may do."""

from core.db.repositories.ingest_devices import DeviceRow
from core.topic_filters import valid_topic
from core.topics_acl import Grant, Route

REFUSED_FILTER = "test/nosubscribe"
DENIED_TOPIC = "test/nopublish"


class AllTopics:
    """Everything but `REFUSED_FILTER` and `DENIED_TOPIC`."""

    def route(self, topic: bytes) -> Route | None:
        """See `Rights`."""
        return None if topic == DENIED_TOPIC.encode() or valid_topic(topic) is None else Route.TOPIC

    def grant(self, topic_filter: str) -> Grant:
        """See `Rights`."""
        return Grant.DENIED if topic_filter == REFUSED_FILTER else Grant.SHARED

    def names(self, rest: str) -> tuple[str, ...]:
        """See `Rights`: nobody has topics of a device."""
        return ()


class AllowAll:
    """Lets anybody in, with or without a name, as one device of one tenant."""

    def __init__(self, row: DeviceRow) -> None:
        self._row = row

    async def sign_in(
        self, username: str | None, password: str | None, certificate: bytes | None = None
    ) -> DeviceRow:
        """See `Authorizer`."""
        return self._row

    def rights(self, row: DeviceRow) -> AllTopics:
        """See `Authorizer`."""
        return AllTopics()
