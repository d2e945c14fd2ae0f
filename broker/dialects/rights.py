"""Which topics a client may use: this platform's own, and those of the dialects it speaks."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid4

import structlog

from broker.dialects.sparkplug import topics as sparkplug
from broker.dialects.thingsboard import topics as thingsboard
from core.db.repositories.ingest_devices import DeviceRow
from core.profiles.dialects import Dialects, GatewayRule, SparkplugRule, read_dialects
from core.topic_filters import MAX_TOPIC, valid_filter
from core.topics_acl import Grant, Route, Topics

_log = structlog.get_logger(__name__)

_VISITOR: Final = "provision"
_NOBODY: Final = UUID(int=0)
_NOTHING: Final = Dialects()


class DialectTopics(Topics):
    """A device's own topics, ThingsBoard's, and what its configuration says it speaks.

    Attributes:
        gateway: It speaks for others by ThingsBoard's gateway API.
        sparkplug: It is an edge node.
        edge: Its edge node id.
    """

    __slots__ = ("edge", "gateway", "sparkplug")

    def __init__(self, row: DeviceRow) -> None:
        super().__init__(row.device_id)
        dialects: Dialects | None = _NOTHING
        if row.dialects is not None and (dialects := read_dialects(row.dialects)) is None:
            _log.warning("a configuration of dialects does not hold", device_id=str(row.device_id))
        dialects = dialects or _NOTHING
        self.gateway: GatewayRule | None = dialects.gateway
        self.sparkplug: SparkplugRule | None = dialects.sparkplug
        self.edge = row.name
        if dialects.sparkplug is not None and dialects.sparkplug.edge is not None:
            self.edge = dialects.sparkplug.edge

    def route(self, topic: bytes) -> Route | None:
        """See `Rights`."""
        known = super().route(topic)
        if known is not None or len(topic) > MAX_TOPIC:
            return known
        if self.sparkplug is not None and sparkplug.of_node(topic, self.sparkplug.group, self.edge):
            return Route.SPARKPLUG
        gateway = self.gateway is not None
        if thingsboard.parse(topic, gateway=gateway) is not None:
            return Route.THINGSBOARD
        return None

    def grant(self, topic_filter: str) -> Grant:
        """See `Rights`."""
        known = super().grant(topic_filter)
        if known is not Grant.DENIED or not valid_filter(topic_filter):
            return known
        if thingsboard.may_subscribe(topic_filter, gateway=self.gateway is not None):
            return Grant.OWN
        if self.sparkplug is not None:
            group = self.sparkplug.group
            if sparkplug.may_subscribe(topic_filter, group, self.edge):
                return Grant.OWN
        return Grant.DENIED


class ProvisionalTopics:
    """What a client may use that asks for credentials."""

    def route(self, topic: bytes) -> Route | None:
        """See `Rights`."""
        return Route.PROVISION if topic == thingsboard.PROVISION_REQUEST else None

    def grant(self, topic_filter: str) -> Grant:
        """See `Rights`."""
        return Grant.OWN if topic_filter == thingsboard.PROVISION_RESPONSE else Grant.DENIED

    def names(self, rest: str) -> tuple[str, ...]:
        """See `Rights`."""
        return ()


def asks_for_credentials(username: str | None, password: str | None) -> bool:
    """Tell whether a client is a device that has no credentials yet, and wants some."""
    return username == _VISITOR and not password


def provisional() -> DeviceRow:
    """Return what stands for a client that has no credentials: a device that is in no table."""
    return DeviceRow(
        credential_id=uuid4(),
        device_id=uuid4(),
        tenant_id=_NOBODY,
        name="",
        profile="",
        lifecycle="active",
        usable=True,
        metadata="{}",
        location=None,
        profile_id=_NOBODY,
        site=None,
        tags=[],
        transient=True,
    )
