"""What an authorizer grants beyond a device's own topics: hearing the tenant's telemetry."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg

from broker.mqtt.auth import Authorizer
from core.db.repositories.ingest_devices import DeviceRow
from core.db.session import Database
from core.settings import Settings
from core.topics_acl import Grant, Topics
from tests.broker.conftest import broker_running, broker_settings
from tests.broker.mqtt.client import Client
from tests.broker.raw import publish_packet, telemetry_topic
from tests.support.mqtt import AllowAll
from tests.support.tenants import MadeDevice, make_device, make_profile, make_tenant

ALL = "v1/devices/+/telemetry"


class _Dashboard(Topics):
    def grant(self, topic_filter: str) -> Grant:
        return Grant.SHARED if topic_filter == ALL else super().grant(topic_filter)


class _Granting(Authorizer):
    """The product's rule, and one filter more."""

    def __init__(self, rows: dict[str, DeviceRow]) -> None:
        self._rows = rows

    async def sign_in(
        self, username: str | None, password: str | None, certificate: bytes | None = None
    ) -> DeviceRow:
        return self._rows[username or ""]

    def rights(self, row: DeviceRow) -> Topics:
        return _Dashboard(row.device_id)


async def test_telemetry_is_stored_and_heard_within_the_tenant_only(
    postgres_server: Settings,
    valkey_server: Settings,
    device: MadeDevice,
    owner: Database,
    anybody: AllowAll,
    another: Callable[..., Awaitable[MadeDevice]],
    sql: "asyncpg.Connection[asyncpg.Record]",
    tenant_id: UUID,
) -> None:
    mine = await anybody.sign_in(None, None)
    tenant = await make_tenant(owner)
    stranger = await make_device(owner, tenant, await make_profile(owner, tenant))
    theirs = mine._replace(device_id=stranger.id, tenant_id=tenant)
    hearer = mine._replace(device_id=(await another()).id)
    settings = broker_settings(postgres_server)
    authorizer = _Granting({"mine": mine, "hears": hearer, "theirs": theirs})
    async with (
        broker_running(settings, authorizer),
        Client(settings) as tells,
        Client(settings) as hears,
        Client(settings) as spies,
    ):
        await tells.connect("tells", username="mine")
        await hears.connect("hears", username="hears")
        await spies.connect("spies", username="theirs")
        assert await hears.subscribe((ALL, 1), ("v1/devices/+/events", 1)) == [1, 0x80]
        assert await spies.subscribe((ALL, 1)) == [1]
        topic = telemetry_topic(device)
        await tells.send(publish_packet(topic, b'{"values": {"a": 1}}', 1, 9))
        assert (await tells.packet())[0] == 0x40
        message = await hears.take()
        assert (message.topic, message.payload) == (topic, b'{"values": {"a": 1}}')
        await spies.nothing()
    count = await sql.fetchval("SELECT count(*) FROM telemetry WHERE device_id = $1", device.id)
    assert count == 1
