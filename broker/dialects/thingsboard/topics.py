"""Topics of ThingsBoard's device and gateway API."""

from enum import Enum
from typing import Final, NamedTuple

from broker.dialects.thingsboard.payloads import MAX_ID

ATTRIBUTES: Final = "v1/devices/me/attributes"
"""Down: changed shared attributes. Up it is a topic of this platform's own."""
ATTRIBUTES_RESPONSE: Final = "v1/devices/me/attributes/response/"
RPC_REQUEST: Final = "v1/devices/me/rpc/request/"
RPC_RESPONSE: Final = "v1/devices/me/rpc/response/"
GATEWAY_ATTRIBUTES: Final = "v1/gateway/attributes"
GATEWAY_ATTRIBUTES_RESPONSE: Final = "v1/gateway/attributes/response"
GATEWAY_RPC: Final = "v1/gateway/rpc"
FIRMWARE_ERROR: Final = "v2/fw/error"
PROVISION_REQUEST: Final = b"/provision/request"
PROVISION_RESPONSE: Final = "/provision/response"

_GATEWAY: Final = b"v1/gateway/"
_FIRMWARE: Final = b"v2/fw/request/"


class Said(Enum):
    """What a message from a device or a gateway is."""

    ASK_ATTRIBUTES = "attributes/request"
    CALL = "rpc/request"
    REPLY = "rpc/response"
    CLAIM = "claim"
    FIRMWARE = "firmware"
    CHILD_CONNECT = "connect"
    CHILD_DISCONNECT = "disconnect"
    CHILDREN_TELEMETRY = "telemetry"
    CHILDREN_ATTRIBUTES = "attributes"
    ASK_CHILD_ATTRIBUTES = "attributes of a child"
    CHILD_REPLY = "rpc"
    CHILDREN_CLAIM = "claims"


class Address(NamedTuple):
    """What a message is, and the request id in its topic, if it has one there."""

    said: Said
    request: str = ""


_WITH_ID: Final = (
    (b"v1/devices/me/attributes/request/", Said.ASK_ATTRIBUTES),
    (RPC_REQUEST.encode(), Said.CALL),
    (RPC_RESPONSE.encode(), Said.REPLY),
)
_OF_GATEWAY: Final = {
    b"v1/gateway/connect": Said.CHILD_CONNECT,
    b"v1/gateway/disconnect": Said.CHILD_DISCONNECT,
    b"v1/gateway/telemetry": Said.CHILDREN_TELEMETRY,
    b"v1/gateway/attributes": Said.CHILDREN_ATTRIBUTES,
    b"v1/gateway/attributes/request": Said.ASK_CHILD_ATTRIBUTES,
    b"v1/gateway/rpc": Said.CHILD_REPLY,
    b"v1/gateway/claim": Said.CHILDREN_CLAIM,
}
_DOWN: Final = frozenset(
    (
        ATTRIBUTES,
        ATTRIBUTES_RESPONSE + "+",
        RPC_REQUEST + "+",
        RPC_RESPONSE + "+",
        "v2/fw/response/+",
        "v2/fw/response/+/chunk/+",
        FIRMWARE_ERROR,
    )
)
_GATEWAY_DOWN: Final = frozenset(
    (
        GATEWAY_ATTRIBUTES,
        GATEWAY_ATTRIBUTES_RESPONSE,
        GATEWAY_RPC,
        "v1/gateway/disconnect",
        "v1/gateway/error",
    )
)
_PREFIXES_DOWN: Final = (ATTRIBUTES_RESPONSE, RPC_REQUEST, RPC_RESPONSE)


def parse(topic: bytes, *, gateway: bool) -> Address | None:
    """Return what a device, or a gateway, says with a topic; None when it means nothing."""
    if topic.startswith(_GATEWAY):
        said = _OF_GATEWAY.get(topic) if gateway else None
        return None if said is None else Address(said)
    for prefix, said in _WITH_ID:
        if topic.startswith(prefix):
            request = _id(topic[len(prefix) :])
            return None if request is None else Address(said, request)
    if topic == b"v1/devices/me/claim":
        return Address(Said.CLAIM)
    if topic.startswith(_FIRMWARE):
        number, _, _ = topic[len(_FIRMWARE) :].partition(b"/")
        request = _id(number)
        return None if request is None else Address(Said.FIRMWARE, request)
    return None


def may_subscribe(topic_filter: str, *, gateway: bool) -> bool:
    """Tell whether a filter is one that ThingsBoard's clients use."""
    if topic_filter in _DOWN or (gateway and topic_filter in _GATEWAY_DOWN):
        return True
    for prefix in _PREFIXES_DOWN:
        if topic_filter.startswith(prefix):
            return _id(topic_filter[len(prefix) :].encode()) is not None
    return False


def _id(text: bytes) -> str | None:
    if 0 < len(text) <= MAX_ID and text.replace(b"-", b"").replace(b"_", b"").isalnum():
        return text.decode("ascii") if text.isascii() else None
    return None
