"""Devices that ask for credentials with those of their profile.

The device is created with its credential and the start of its provisioning in one transaction, and
answered after the commit. One that misses the answer has to ask by another name, or be deleted:
its token is stored as a digest only. Bounds: attempts of a connection, after which it is closed.
"""

from __future__ import annotations

import hmac
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec
import structlog

from broker.database import OUTAGE, IngestDatabase
from broker.dialects.thingsboard import payloads, topics
from broker.ingest.batching import Part
from broker.ingest.payloads import PayloadError
from broker.mqtt.connection import Connection
from core.crypto import device_key_digest, new_device_key
from core.db.repositories.ingest import OutboxRow
from core.db.repositories.ingest_gateways import NewDevice, provision, provisioner
from core.temporal import names
from core.temporal.contracts import ProvisioningInput
from core.temporal.outbox import StartWorkflow

if TYPE_CHECKING:
    from broker.devices import Device
    from broker.notifications import Notifier
    from core.topics_acl import Route

_log = structlog.get_logger(__name__)

MAX_ATTEMPTS: Final = 3


class Provisioning:
    """Handles `/provision/request`."""

    def __init__(self, database: IngestDatabase, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier

    def handle(
        self, part: Part, device: Device, route: Route, topic: bytes, payload: bytes, now: int
    ) -> Coroutine[Any, Any, None] | None:
        """See `Handler`."""
        connection = part.target
        assert isinstance(connection, Connection)
        device.last_time += 1  # it measures nothing: its attempts are counted here
        if device.last_time > MAX_ATTEMPTS:
            connection.end("too many attempts to be provisioned")
            return None
        return self._answer(connection, payload)

    async def _answer(self, connection: Connection, payload: bytes) -> None:
        try:
            token = await self._provision(payloads.provision_request(payload))
            answer = {
                "status": "SUCCESS",
                "credentialsType": "ACCESS_TOKEN",
                "credentialsValue": token,
            }
        except PayloadError as error:
            _log.info("not provisioned", why=error.message, peer=connection.peer)
            status = "NOT_FOUND" if error.code == "unknown_key" else "FAILURE"
            answer = {"status": status, "errorMsg": error.message}
        except OUTAGE as error:
            _log.warning("provisioning cannot ask the database", reason=repr(error))
            answer = {"status": "FAILURE", "errorMsg": "try again later"}
        connection.tell(topics.PROVISION_RESPONSE, payloads.encode(answer))

    async def _provision(self, request: payloads.ProvisionRequest) -> str:
        secret = device_key_digest(request.secret)
        async with self._database.transaction() as connection:
            profile = await provisioner(connection, request.key)
            # As long for an unknown key as for a wrong secret.
            expected = bytes(32) if profile is None else profile.secret_sha256
            if not hmac.compare_digest(secret, expected) or profile is None:
                raise PayloadError("unknown_key", "", "provision data was not found")
            device_id, token = uuid4(), request.token or new_device_key()
            name = request.name or f"device-{device_id.hex[:12]}"
            digest = device_key_digest(token)
            start = StartWorkflow(
                workflow_type=names.WorkflowType.DEVICE_PROVISIONING,
                workflow_id=names.provisioning_id(profile.tenant_id, device_id),
                input=ProvisioningInput(
                    tenant_id=profile.tenant_id,
                    device_id=device_id,
                    name=name,
                    profile_id=profile.profile_id,
                    key_sha256=digest.hex(),
                ).model_dump(mode="json"),
            )
            row = OutboxRow(
                profile.tenant_id,
                "start_workflow",
                start.workflow_id,
                msgspec.json.encode(start).decode(),
            )
            new = NewDevice(device_id, name, digest, row)
            if not await provision(connection, profile, new):
                raise PayloadError("name_taken", "", "the name, or the token, is in use")
        self._notifier.outbox()
        _log.info("a device was provisioned", device_id=str(device_id))
        return token
