"""Which devices speak for others: `gateway` and `sparkplug` in a configuration.

Both stand in a profile's configuration, or in a device's own, which counts more. `true` is a rule
without particulars.
"""

from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

MAX_CHILDREN: Final = 10_000
_USUAL_CHILDREN: Final = 1000

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
_Level = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^/+#\x00]+$")]


def _short(value: Any) -> Any:
    match value:
        case True:
            return {}
        case False:
            return None
        case _:
            return value


Shorthand: Final = BeforeValidator(_short)


class GatewayRule(BaseModel):
    """The device may speak for others, by ThingsBoard's gateway API.

    Attributes:
        profile: Of a device that is created because the gateway names it; without one, and without
            one in the gateway's own message, none is created.
        max_children: Devices behind it at a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: Name | None = None
    max_children: Annotated[int, Field(ge=1, le=MAX_CHILDREN)] = _USUAL_CHILDREN


class SparkplugRule(GatewayRule):
    """The device is an edge node of Sparkplug B.

    Attributes:
        group: Its group; without one, any.
        edge: Its edge node id; without one, the device's name.
    """

    group: _Level | None = None
    edge: _Level | None = None


class Dialects(BaseModel):
    """What a device speaks beside this platform's own API."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    gateway: Annotated[GatewayRule | None, Shorthand] = None
    sparkplug: Annotated[SparkplugRule | None, Shorthand] = None


def read_dialects(configuration: str) -> Dialects | None:
    """Return what a configuration says in JSON; None when it does not hold."""
    try:
        return Dialects.model_validate_json(configuration)
    except ValidationError:
        return None
