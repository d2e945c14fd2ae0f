"""Forms and answers of gateways, claims and provisioning keys."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from api.devices.schemas import Status
from api.schemas import Form, Name, Pagination, Text, View


class ChildForm(Form):
    """How a gateway calls a device; by the device's own name unless said otherwise."""

    name: Name | None = None


class ChildView(View):
    """A device that a gateway may speak for."""

    device_id: UUID
    name: str = Field(description="By which the gateway speaks of it.")
    device_name: str
    status: Status
    created_at: datetime


class ChildList(View):
    """A page of a gateway's devices."""

    children: list[ChildView]
    pagination: Pagination


class ClaimForm(Form):
    """A claim of a device that can be claimed."""

    name: Name = Field(description="The device's.")
    secret: Annotated[Text, StringConstraints(max_length=200)] = Field(
        default="", description="What the device named as its secret key."
    )


class ClaimView(View):
    """A device that was claimed."""

    device_id: UUID
    claimed_at: datetime
    claimed_by: UUID


class ProvisioningView(View):
    """What lets devices of a profile ask for credentials."""

    provision_device_key: str
    created_at: datetime


class CreatedProvisioning(ProvisioningView):
    """The same with its secret, which is shown once and not stored."""

    provision_device_secret: str
