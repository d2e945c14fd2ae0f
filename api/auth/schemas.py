"""Forms and answers of signing in."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from api.schemas import Form, View

Email = Annotated[
    str,
    StringConstraints(
        min_length=3,
        max_length=320,
        strip_whitespace=True,
        to_lower=True,
        pattern=r"^[^@\s\x00]+@[^@\s\x00]+$",
    ),
]


class LoginForm(Form):
    """Credentials of a person."""

    email: Email
    # Longer passwords would only cost memory.
    password: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class RefreshForm(Form):
    """A refresh token, good for one use."""

    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class TokensView(View):
    """An access token and the refresh token that follows it.

    Attributes:
        expires_in: Seconds until the access token is over.
    """

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  (a word of RFC 6750, no secret)
    expires_in: int
    session_id: UUID


class UserView(View):
    """A person."""

    id: UUID
    email: str
    profile: dict[str, object]
    last_login: datetime | None


class TenantView(View):
    """A tenant."""

    id: UUID
    name: str
    subdomain: str


class OrganizationView(View):
    """An organization."""

    id: UUID
    name: str


class MeView(View):
    """Who is signed in, and what they may do."""

    user: UserView
    tenant: TenantView
    organization: OrganizationView
    roles: list[str]
    permissions: list[str]
    session_id: UUID
    mfa_verified: bool
    token_expires_at: int = Field(description="Epoch seconds.")
