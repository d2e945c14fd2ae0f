"""Who there is: organizations, tenants, users, roles, sessions."""

import sqlalchemy as sa
from sqlmodel import Field

from core.db.columns import (
    UUID,
    Document,
    Instant,
    Table,
    document,
    moment,
    reference,
    tenant_key,
    uuid_key,
)


class Organization(Table, table=True):
    """A customer; it owns tenants."""

    __tablename__ = "organizations"

    id: UUID = uuid_key()
    name: str = Field(max_length=255)
    settings: Document = document()
    created_at: Instant = moment(now=True)


class Tenant(Table, table=True):
    """The unit of isolation."""

    __tablename__ = "tenants"

    id: UUID = uuid_key()
    organization_id: UUID = reference("organizations.id")
    name: str = Field(max_length=255)
    subdomain: str = Field(max_length=100, unique=True)
    configuration: Document = document()
    active: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    created_at: Instant = moment(now=True)
    updated_at: Instant = moment(now=True)


class User(Table, table=True):
    """A person who signs in. E-mail addresses are stored in lower case and unique overall."""

    __tablename__ = "users"

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    email: str = Field(max_length=320, unique=True)
    encrypted_password: str = Field(max_length=255)
    profile: Document = document()
    active: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    last_login: Instant = moment()
    created_at: Instant = moment(now=True)


class Role(Table, table=True):
    """A named set of permissions. Without a tenant it is one of the platform's own."""

    __tablename__ = "roles"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "name", postgresql_nulls_not_distinct=True),)

    id: UUID = uuid_key()
    tenant_id: UUID | None = reference("tenants.id", nullable=True, default=None)
    name: str = Field(max_length=100)
    description: str = Field(default="", max_length=500)


class Permission(Table, table=True):
    """Something that may be done, as `resource:action`. The same for all tenants."""

    __tablename__ = "permissions"

    name: str = Field(max_length=100, primary_key=True)
    description: str = Field(default="", max_length=500)


class RolePermission(Table, table=True):
    """A role grants a permission."""

    __tablename__ = "role_permissions"

    role_id: UUID = reference("roles.id", primary_key=True)
    permission: str = reference("permissions.name", primary_key=True)


class UserRole(Table, table=True):
    """A user has a role."""

    __tablename__ = "user_roles"

    user_id: UUID = reference("users.id", primary_key=True)
    role_id: UUID = reference("roles.id", primary_key=True)
    tenant_id: UUID = tenant_key()


class UserSession(Table, table=True):
    """A signed-in session.

    Each refresh replaces `refresh_id`; a token with an older one was stolen or replayed, and ends
    the session.
    """

    __tablename__ = "user_sessions"

    id: UUID = uuid_key()
    tenant_id: UUID = tenant_key()
    user_id: UUID = reference("users.id")
    refresh_id: UUID
    user_agent: str = Field(default="", max_length=500)
    address: str = Field(default="", max_length=64)
    created_at: Instant = moment(now=True)
    last_used_at: Instant = moment(now=True)
    expires_at: Instant = moment()
    ended_at: Instant = moment()
    end_reason: str | None = Field(default=None, max_length=100)
