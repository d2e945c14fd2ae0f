"""Forms and answers of device profiles."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from api.schemas import Form, Pagination, Text, View, check_storable
from core.profiles.configuration import ProfileConfiguration

ProfileName = Annotated[
    str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\- ]*$")
]
Description = Annotated[Text, StringConstraints(max_length=500)]


def _storable(configuration: ProfileConfiguration) -> ProfileConfiguration:
    check_storable(configuration.document())
    return configuration


Configuration = Annotated[ProfileConfiguration, AfterValidator(_storable)]


class ProfileForm(Form):
    """A new profile.

    `configuration` may hold `metrics`, `derived`, `desired` and `prediction`.
    """

    name: ProfileName
    description: Description = ""
    configuration: Configuration = Field(default_factory=ProfileConfiguration)


class ProfileChange(Form):
    """What changes of a profile; the name stays, because definitions refer to it."""

    description: Description | None = None
    configuration: Configuration | None = None


class ProfileView(View):
    """A profile."""

    id: UUID
    name: str
    description: str
    configuration: dict[str, object]
    created_at: datetime


class ProfileList(View):
    """A page of profiles."""

    profiles: list[ProfileView]
    pagination: Pagination
