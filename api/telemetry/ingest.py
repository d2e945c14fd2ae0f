"""Measurements that come over HTTP: read, handed to the broker, answered after the commit."""

import re
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

from api.deps import WorkFactory
from api.problems import pointer
from api.services import Services
from api.telemetry.ingest_schemas import BulkOutcome, RefusedItem
from core import topics
from core.db.repositories import device_names
from core.errors import FieldError, InvalidInputError, NotFoundError
from core.intake import (
    OUT_OF_SERVICE,
    UNKNOWN_DEVICE,
    Message,
    Outcome,
    RefusedMessageError,
)

MAX_ITEMS: Final = 10_000

_PATH: Final = re.compile(r" - at `\$(.*)`$")


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a bulk; exactly one member names its device."""

    telemetry: msgspec.Raw
    device_id: UUID | None = None
    device: str | None = None
    external_id: str | None = None

    @property
    def name(self) -> tuple[str, str] | None:
        """How the device is named, and the name; None unless there is exactly one."""
        named = [
            (kind, str(value))
            for kind, value in (
                ("device_id", self.device_id),
                ("device", self.device),
                ("external_id", self.external_id),
            )
            if value is not None
        ]
        return named[0] if len(named) == 1 else None


_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_item: Final = msgspec.json.Decoder(Item).decode


async def by_device(
    services: Services, key: str, device_id: UUID | None, kind: str, payload: bytes
) -> None:
    """Take a message from a device that shows its own key.

    Raises:
        NotAuthenticatedError: The key is unknown, void, or another device's.
        RefusedMessageError: It cannot be taken; it is kept as a dead letter.
        UnavailableError: The broker or the database is down, or overloaded.
    """
    outcome = await services.intake.own(key, device_id, kind, payload)
    if not outcome.stored:
        raise RefusedMessageError(outcome)


async def by_user(services: Services, tenant_id: UUID, device_id: UUID, payload: bytes) -> None:
    """Take telemetry of a device from a user.

    Raises:
        NotFoundError: There is no such device.
        RefusedMessageError: It cannot be taken; it is kept as a dead letter.
        UnavailableError: The broker or the database is down, or overloaded.
    """
    message = Message(device_id, topics.telemetry(device_id), payload)
    (outcome,) = await services.intake.deliver(tenant_id, [message])
    if outcome.code == UNKNOWN_DEVICE:
        raise NotFoundError("There is no such device.")
    if not outcome.stored:
        raise RefusedMessageError(outcome)


async def bulk(
    services: Services, work: WorkFactory, body: bytes, *, lines: bool, fire_triggers: bool
) -> BulkOutcome:
    """Take messages of many devices; one that is refused holds up no other.

    Raises:
        InvalidInputError: The body is no list, or too long a one.
        UnavailableError: The broker or the database is down, or overloaded.
    """
    max_payload = services.settings.broker.max_payload
    refused: list[RefusedItem] = []
    items: list[tuple[int, Item, tuple[str, str]]] = []
    for index, raw in enumerate(_split(body, lines=lines)):
        try:
            item = _item(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refused.append(_malformed(index, error))
            continue
        named = item.name
        if named is None:
            refused.append(
                _refused(index, "invalid_device", "", "name the device by exactly one member")
            )
        elif len(item.telemetry) > max_payload:
            refused.append(
                _refused(index, "too_large", "/telemetry", f"longer than {max_payload} bytes")
            )
        else:
            items.append((index, item, named))
    places: list[tuple[int, str]] = []
    messages: list[Message] = []
    found = await _devices(work, (named for _, _, named in items))
    for index, item, named in items:
        device_id = found.get(named)
        if device_id is None:
            refused.append(
                _refused(index, UNKNOWN_DEVICE, f"/{named[0]}", "there is no such device")
            )
        else:
            places.append((index, named[0]))
            messages.append(Message(device_id, topics.telemetry(device_id), bytes(item.telemetry)))
    outcomes: list[Outcome] = []
    if messages:
        outcomes = await services.intake.deliver(
            work.caller.tenant_id, messages, fire_triggers=fire_triggers
        )
    for (index, member), outcome in zip(places, outcomes, strict=True):
        if not outcome.stored:
            of_device = outcome.code in (UNKNOWN_DEVICE, OUT_OF_SERVICE)
            place = f"/{member}" if of_device else f"/telemetry{outcome.pointer}"
            refused.append(_refused(index, outcome.code, place, outcome.message))
    refused.sort(key=lambda item: item.index)
    return BulkOutcome(stored=sum(outcome.stored for outcome in outcomes), refused=refused)


def _split(body: bytes, *, lines: bool) -> list[bytes] | list[msgspec.Raw]:
    if lines:
        found = [line for line in body.splitlines() if line.strip()]
    else:
        try:
            found = _items(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInputError(
                "The body is not a JSON list.",
                errors=(
                    FieldError(
                        "",
                        str(error)[:500],
                        "One message a line is application/x-ndjson.",
                    ),
                ),
            ) from error
    if not found or len(found) > MAX_ITEMS:
        raise InvalidInputError(f"A bulk has 1 to {MAX_ITEMS:,} messages, not {len(found):,}.")
    return found


async def _devices(
    work: WorkFactory, names: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], UUID]:
    """Return the devices by how they are named; ids are checked by the broker."""
    wanted: dict[str, set[str]] = {"device_id": set(), "device": set(), "external_id": set()}
    for kind, name in names:
        wanted[kind].add(name)
    found = {("device_id", name): UUID(name) for name in wanted["device_id"]}
    if wanted["device"] or wanted["external_id"]:
        async with work() as unit:
            named = await device_names.by_name(unit.session, wanted["device"])
            external = await device_names.by_external_id(unit.session, wanted["external_id"])
        found |= {("device", name): device_id for name, device_id in named.items()}
        found |= {("external_id", name): device_id for name, device_id in external.items()}
    return found


def _refused(index: int, code: str, place: str, message: str) -> RefusedItem:
    return RefusedItem(
        index=index, code=code, pointer=pointer([index]) + place, message=message[:1000]
    )


def _malformed(index: int, error: Exception) -> RefusedItem:
    text = str(error)
    found = _PATH.search(text)
    place = "" if found is None else found[1].replace(".", "/")
    return _refused(index, "invalid_item", place, _PATH.sub("", text))
