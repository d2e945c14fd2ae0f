"""Puts the dialects into an MQTT server."""

from broker.database import IngestDatabase
from broker.dialects.children import Nursery
from broker.dialects.sparkplug.handler import NODE_VOICE, Sparkplug
from broker.dialects.thingsboard.handler import ThingsBoard
from broker.dialects.thingsboard.provisioning import Provisioning
from broker.dialects.thingsboard.voices import DeviceVoice
from broker.entrance import Entrance
from broker.ingest.intake import Ingest
from broker.mqtt.server import MqttServer
from broker.notifications import Notifier
from broker.presence import Presence
from core.settings import Settings
from core.topics_acl import Route


def speak_dialects(
    server: MqttServer,
    settings: Settings,
    database: IngestDatabase,
    entrance: Entrance,
    ingest: Ingest,
    presence: Presence,
    notifier: Notifier,
) -> None:
    """Let a server understand ThingsBoard's API and Sparkplug B, and answer in them."""
    nursery = Nursery(database, entrance, presence, server.downlinks)
    max_payload = settings.broker.max_payload
    thingsboard = ThingsBoard(server, database, ingest, nursery, max_payload)
    sparkplug = Sparkplug(ingest, nursery)
    server.handlers[Route.THINGSBOARD] = thingsboard.handle
    server.handlers[Route.SPARKPLUG] = sparkplug.handle
    server.handlers[Route.PROVISION] = Provisioning(database, notifier).handle
    server.voices = (*server.voices, DeviceVoice(), NODE_VOICE)
    server.on_subscribe.append(sparkplug.subscribed)
