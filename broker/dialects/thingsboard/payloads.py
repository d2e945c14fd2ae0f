"""What ThingsBoard's device and gateway API says: JSON to plain values, and back.

Telemetry and attributes are read by `broker.ingest.payloads`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from broker.ingest.payloads import MAX_NAME, PayloadError

MAX_DEVICES: Final = 500
"""Devices that one gateway message may speak of."""
MAX_CHILD_NAME: Final = 255
MAX_KEYS: Final = 200
MAX_ID: Final = 36
"""Characters of a request id in a topic; ThingsBoard's are integers."""
DEFAULT_SECRET: Final = ""
"""Claims a device that named no secret."""
MAX_CLAIM: Final = 30 * 86_400_000
"""Milliseconds that a device may be claimable."""
DEFAULT_CLAIM: Final = 86_400_000

_decode: Final = msgspec.json.Decoder().decode
_decode_parts: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode: Final = msgspec.json.Encoder().encode


def object_of(payload: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        PayloadError: It is none.
    """
    try:
        document = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("not_json", "", f"the payload is not JSON: {error}"[:500]) from error
    if not isinstance(document, dict):
        raise PayloadError("invalid_form", "", f"{what} is an object")
    return document


def per_device(payload: bytes) -> dict[str, bytes]:
    """Read a gateway's message that has a member for each device: its name → JSON.

    Raises:
        PayloadError: It is none, or speaks of too many devices.
    """
    try:
        parts = _decode_parts(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(
            "invalid_form", "", f"not an object with a member for each device: {error}"[:500]
        ) from error
    if not parts:
        raise PayloadError("empty", "", "the message speaks of no device")
    if len(parts) > MAX_DEVICES:
        raise PayloadError("too_many", "", f"more than {MAX_DEVICES} devices")
    for name in parts:
        check_child(name, pointer_to(name))
    return {name: bytes(raw) for name, raw in parts.items()}


def pointer_to(name: str) -> str:
    """Return the pointer to a member."""
    return f"/{name.replace('~', '~0').replace('/', '~1')}"[:500]


def check_child(name: Any, pointer: str) -> str:
    """Return the name of a device behind a gateway.

    Raises:
        PayloadError: It cannot be one.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_CHILD_NAME or "\0" in name:
        raise PayloadError(
            "invalid_name", pointer, f"a device's name has 1 to {MAX_CHILD_NAME} characters"
        )
    return name


@dataclass(frozen=True, slots=True)
class Arrival:
    """A device that came to, or left, its gateway; `profile` is what it says it is."""

    device: str
    profile: str | None


def arrival(payload: bytes) -> Arrival:
    """Read `{"device": …, "type": …}`, or the device's name alone.

    Raises:
        PayloadError: It cannot be taken.
    """
    if payload[:1] not in (b"{", b"["):  # early gateways sent the bare name
        try:
            return Arrival(check_child(payload.decode(), ""), None)
        except UnicodeDecodeError as error:
            raise PayloadError("not_json", "", "the payload is not JSON") from error
    document = object_of(payload, "an arrival")
    profile = document.get("type")
    if profile is not None and (not isinstance(profile, str) or "\0" in profile):
        raise PayloadError("invalid_type", "/type", "a type is the name of a device profile")
    return Arrival(check_child(document.get("device"), "/device"), profile or None)


@dataclass(frozen=True, slots=True)
class AttributeRequest:
    """Which attributes are asked for.

    Attributes:
        client, shared: Keys; None is all of them, an empty list none.
        values: How a gateway wants the answer: by `value` or `values` (its older form), or by
            `client` and `shared`.
    """

    client: list[str] | None
    shared: list[str] | None
    device: str = ""
    id: int | str = 0
    single: bool = False
    merged: bool = False

    def answer(self, reported: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a device: client attributes are reported, shared ones desired."""
        found = {"client": _pick(reported, self.client), "shared": _pick(desired, self.shared)}
        return {scope: values for scope, values in found.items() if values}

    def gateway_answer(
        self, reported: Mapping[str, Any], desired: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the answer to a gateway."""
        found = self.answer(reported, desired)
        head: dict[str, Any] = {"id": self.id, "device": self.device}
        if not self.merged:
            return head | found
        values = {k: v for scope in found.values() for k, v in scope.items()}
        if self.single:
            return head | ({"value": next(iter(values.values()))} if values else {})
        return head | {"values": values}


def attribute_request(payload: bytes) -> AttributeRequest:
    """Read a device's request: comma-separated `clientKeys` and `sharedKeys`; without both, all.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = object_of(payload, "a request")
    client = _keys(document.get("clientKeys"), "/clientKeys")
    shared = _keys(document.get("sharedKeys"), "/sharedKeys")
    if client is None and shared is None:
        return AttributeRequest(None, None)
    return AttributeRequest(client or [], shared or [])


def gateway_attribute_request(payload: bytes) -> AttributeRequest:
    """Read a gateway's request.

    `{"id", "device", "client": bool, "key" | "keys"}`, or lists of keys as `client` and `shared`.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = object_of(payload, "a request")
    device = check_child(document.get("device"), "/device")
    number = document.get("id")
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise PayloadError("invalid_id", "/id", "a request has an id")
    scope = document.get("client")
    if isinstance(scope, list) or "shared" in document:
        client = _keys(scope, "/client") or []
        shared = _keys(document.get("shared"), "/shared") or []
        return AttributeRequest(client, shared, device, number)
    single = "key" in document
    keys = _keys(document.get("key") if single else document.get("keys"), "/keys")
    if keys is None:
        raise PayloadError("invalid_keys", "/keys", "a request names the keys it wants")
    client, shared = (keys, []) if scope else ([], keys)
    return AttributeRequest(client, shared, device, number, single=single, merged=True)


def _keys(keys: Any, pointer: str) -> list[str] | None:
    if keys is None:
        return None
    names = keys.split(",") if isinstance(keys, str) else keys
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PayloadError("invalid_keys", pointer, "keys are a list, or a text with commas")
    if len(names) > MAX_KEYS:
        raise PayloadError("too_many", pointer, f"more than {MAX_KEYS} keys")
    return [name.strip() for name in names if name.strip()]


def _pick(values: Mapping[str, Any], keys: Iterable[str] | None) -> dict[str, Any]:
    if keys is None:
        return dict(values)
    return {key: values[key] for key in keys if key in values}


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a device: what it wants of the platform."""

    method: str
    params: Any


def call(payload: bytes) -> Call:
    """Read `{"method": …, "params": …}`.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = object_of(payload, "a call")
    method = document.get("method")
    if not isinstance(method, str) or not 0 < len(method) <= MAX_NAME or "\0" in method:
        raise PayloadError(
            "invalid_method", "/method", f"a method has a name of up to {MAX_NAME} characters"
        )
    params = document.get("params")
    _check_storable(params)
    return Call(method, params)


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a command."""

    device: str
    number: int
    response: dict[str, Any]


def reply(payload: bytes) -> dict[str, Any]:
    """Read a device's answer to a command; whatever is no object becomes its member `result`.

    Raises:
        PayloadError: It cannot be taken.
    """
    if not payload:
        return {}
    try:
        document = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("not_json", "", f"the payload is not JSON: {error}"[:500]) from error
    return _response(document)


def gateway_reply(payload: bytes) -> Reply:
    """Read `{"device": …, "id": …, "data": …}`.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = object_of(payload, "an answer")
    device = check_child(document.get("device"), "/device")
    number = document.get("id")
    if isinstance(number, bool) or not isinstance(number, int):
        raise PayloadError("invalid_response", "/id", "an answer repeats the id of its command")
    return Reply(device, number, _response(document.get("data")))


def _response(document: Any) -> dict[str, Any]:
    _check_storable(document)
    return document if isinstance(document, dict) else {"result": document}


def _check_storable(document: Any) -> None:
    if b"\\u0000" in encode(document):
        raise PayloadError("invalid_text", "", "text must not contain U+0000")


@dataclass(frozen=True, slots=True)
class Claim:
    """A device may be claimed by whoever knows the secret, for so many milliseconds."""

    secret: str
    duration: int


def claim(payload: bytes) -> Claim:
    """Read `{"secretKey": …, "durationMs": …}`; both may be missing.

    Raises:
        PayloadError: It cannot be taken.
    """
    document = object_of(payload, "a claim") if payload.strip() else {}
    secret, duration = document.get("secretKey", DEFAULT_SECRET), document.get("durationMs")
    if secret is None:
        secret = DEFAULT_SECRET
    if not isinstance(secret, str) or len(secret) > 200:
        raise PayloadError("invalid_secret", "/secretKey", "a secret is a text, 200 at most")
    if duration is None or duration == 0:
        duration = DEFAULT_CLAIM
    if isinstance(duration, bool) or not isinstance(duration, int) or not 0 < duration <= MAX_CLAIM:
        raise PayloadError(
            "invalid_duration", "/durationMs", f"a duration is up to {MAX_CLAIM} milliseconds"
        )
    return Claim(secret, duration)


@dataclass(frozen=True, slots=True)
class ProvisionRequest:
    """A device that asks for credentials with those of its profile."""

    key: str
    secret: str
    name: str | None
    token: str | None


def provision_request(payload: bytes) -> ProvisionRequest:
    """Read a request of a device that has no credentials yet.

    Raises:
        PayloadError: It cannot be taken; its message is the answer.
    """
    document = object_of(payload, "a request")
    key, secret = document.get("provisionDeviceKey"), document.get("provisionDeviceSecret")
    if not isinstance(key, str) or not isinstance(secret, str) or not key or not secret:
        raise PayloadError("invalid_request", "", "provisionDeviceKey and -Secret are missing")
    kind = document.get("credentialsType") or "ACCESS_TOKEN"
    if kind != "ACCESS_TOKEN":
        raise PayloadError(
            "unsupported_credentials", "/credentialsType", "only ACCESS_TOKEN is given"
        )
    name, token = document.get("deviceName") or None, document.get("token") or None
    if name is not None:
        check_child(name, "/deviceName")
    if token is not None and (not isinstance(token, str) or not 20 <= len(token) <= 200):
        raise PayloadError("invalid_token", "/token", "a token of its own has 20 to 200 characters")
    return ProvisionRequest(key, secret, name, token)


def number_of(command_id: UUID) -> int:
    """Return the integer by which a command is known to a ThingsBoard client.

    Always the same for a command, so that an answer finds it however often it was sent.
    """
    return command_id.int & 0x7FFF_FFFF


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notice of changed shared attributes; empty when nothing changed."""
    notice = {key: value for key, value in after.items() if before.get(key, ...) != value}
    if gone := sorted(before.keys() - after.keys()):
        notice["deleted"] = gone
    return notice
