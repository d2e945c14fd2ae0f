"""Forms and answers of devices."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from api.profiles.schemas import ProfileName
from api.schemas import Form, JsonObject, Name, Pagination, Text, View
from core.db.tables import Device

MAX_BULK = 10_000

Status = Literal["online", "offline", "warning", "error"]
Lifecycle = Literal["registered", "pending", "active", "expired", "decommissioned"]


class GeoLocation(Form):
    """Where a device stands, in WGS 84."""

    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
    altitude: Annotated[float | None, Field(allow_inf_nan=False, description="Metres.")] = None
    address: Annotated[Text, StringConstraints(max_length=500)] | None = None


Site = Annotated[Text, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Tag = Annotated[Text, StringConstraints(min_length=1, max_length=50, strip_whitespace=True)]


def _distinct(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


Tags = Annotated[list[Tag], Field(max_length=50), AfterValidator(_distinct)]


class DeviceForm(Form):
    """A new device.

    `configuration.desired`, laid over the profile's, becomes the twin's first desired state.
    """

    name: Name
    type: ProfileName = Field(description="Name of a device profile.")
    location: GeoLocation | None = None
    site: Site | None = None
    tags: Tags = Field(default_factory=list)
    metadata: JsonObject = Field(default_factory=dict)
    configuration: JsonObject = Field(default_factory=dict)


class DeviceChange(Form):
    """What changes of a device; fields left out stay; null takes location and site away."""

    name: Name | None = None
    location: GeoLocation | None = None
    site: Site | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    configuration: JsonObject | None = None


class DeviceView(View):
    """A device."""

    id: UUID
    name: str
    type: str
    status: Status
    lifecycle: Lifecycle
    location: dict[str, Any] | None
    site: str | None
    tags: list[str]
    metadata: dict[str, Any]
    configuration: dict[str, Any]
    last_seen: datetime | None
    connected_at: datetime | None
    activated_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, device: Device, profile: str) -> Self:
        """Describe a stored device."""
        return cls.model_validate(
            {**device.model_dump(exclude={"labels"}), "type": profile, "metadata": device.labels}
        )


class DeviceList(View):
    """A page of devices."""

    devices: list[DeviceView]
    pagination: Pagination


class CredentialsView(View):
    """What a device signs in with. The key is shown once and not stored.

    MQTT: username = device id, password = key.
    """

    device_id: UUID
    device_key: str
    mqtt_endpoint: str


class CreatedDevice(View):
    """A device and its credentials."""

    device: DeviceView
    credentials: CredentialsView


class BulkForm(Form):
    """Many devices at once: all are created, or none."""

    devices: Annotated[list[DeviceForm], Field(min_length=1, max_length=MAX_BULK)]


class BulkDevice(View):
    """One device of a bulk; its key is shown once."""

    name: str
    device_id: UUID
    device_key: str


class BulkCreated(View):
    """A bulk that is being provisioned."""

    provisioning_id: UUID
    mqtt_endpoint: str
    devices: list[BulkDevice]


class BulkProgressView(View):
    """How far a bulk is; counts of devices."""

    provisioning_id: UUID
    total: int
    pending: int
    active: int
    expired: int
    failed: int


class EventView(View):
    """Something that happened to a device."""

    id: UUID
    time: datetime
    name: str
    data: dict[str, Any]


class EventList(View):
    """A page of events."""

    events: list[EventView]
    pagination: Pagination
