"""Users, their roles, and their sessions."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import (
    Organization,
    Role,
    RolePermission,
    Tenant,
    User,
    UserRole,
    UserSession,
)


@dataclass(frozen=True, slots=True)
class Login:
    """What is known of a person before anybody is signed in."""

    user_id: UUID
    tenant_id: UUID
    organization_id: UUID
    encrypted_password: str
    active: bool


@dataclass(frozen=True, slots=True)
class Grants:
    """What a user may do."""

    roles: tuple[str, ...]
    permissions: tuple[str, ...]


async def find_login(session: AsyncSession, email: str) -> Login | None:
    """Look a person up in every tenant, by e-mail address."""
    found = await session.execute(
        sa.text("SELECT * FROM auth_user_by_email(:email)"), {"email": email}
    )
    row = found.first()
    return None if row is None else Login(*row)


async def session_tenant(session: AsyncSession, session_id: UUID) -> UUID | None:
    """Return the tenant of a session of any tenant."""
    return await session.scalar(sa.select(sa.func.auth_session_tenant(session_id)))


async def grants(session: AsyncSession, user_id: UUID) -> Grants:
    """Return the roles and permissions of a user of this tenant, sorted."""
    rows = await session.execute(
        select(Role.name, RolePermission.permission)
        .join(UserRole, col(UserRole.role_id) == col(Role.id))
        .join(RolePermission, col(RolePermission.role_id) == col(Role.id), isouter=True)
        .where(col(UserRole.user_id) == user_id)
    )
    roles: set[str] = set()
    permissions: set[str] = set()
    for role, permission in rows:
        roles.add(role)
        if permission is not None:
            permissions.add(permission)
    return Grants(tuple(sorted(roles)), tuple(sorted(permissions)))


async def get_user(session: AsyncSession, user_id: UUID) -> User | None:
    """Return a user of this tenant."""
    return await session.get(User, user_id)


async def get_tenant(session: AsyncSession, tenant_id: UUID) -> tuple[Tenant, Organization] | None:
    """Return this tenant and the organization it belongs to."""
    rows = await session.execute(
        select(Tenant, Organization)
        .join(Organization, col(Organization.id) == col(Tenant.organization_id))
        .where(col(Tenant.id) == tenant_id)
    )
    row = rows.first()
    return None if row is None else (row[0], row[1])


async def record_login(session: AsyncSession, user_id: UUID, at: datetime) -> None:
    """Note that a user signed in."""
    await session.execute(sa.update(User).where(col(User.id) == user_id).values(last_login=at))


async def replace_password(session: AsyncSession, user_id: UUID, encrypted: str) -> None:
    """Store another hash of a user's password."""
    await session.execute(
        sa.update(User).where(col(User.id) == user_id).values(encrypted_password=encrypted)
    )


async def lock_session(session: AsyncSession, session_id: UUID) -> UserSession | None:
    """Return a session, locked until the end of the transaction."""
    return await session.scalar(
        select(UserSession).where(col(UserSession.id) == session_id).with_for_update()
    )


async def session_is_live(session: AsyncSession, session_id: UUID) -> bool:
    """Tell whether a session may still be used: not ended, not over, its user still active."""
    found = await session.scalar(
        select(col(UserSession.id))
        .join(User, col(User.id) == col(UserSession.user_id))
        .join(Tenant, col(Tenant.id) == col(UserSession.tenant_id))
        .where(
            col(UserSession.id) == session_id,
            col(UserSession.ended_at).is_(None),
            col(UserSession.expires_at) > sa.func.now(),
            col(User.active),
            col(Tenant.active),
        )
    )
    return found is not None


async def end_session(session: AsyncSession, session_id: UUID, reason: str) -> bool:
    """End a session.

    Returns:
        False when it had ended before.
    """
    ended = await session.execute(
        sa.update(UserSession)
        .where(col(UserSession.id) == session_id, col(UserSession.ended_at).is_(None))
        .values(ended_at=sa.func.now(), end_reason=reason)
        .returning(col(UserSession.id))
    )
    return ended.first() is not None


async def ensure_tenant(
    session: AsyncSession, *, organization: str, tenant: str, subdomain: str
) -> Tenant:
    """Return the tenant at `subdomain`, made if it is new. Needs the owner's role."""
    existing = await session.scalar(select(Tenant).where(col(Tenant.subdomain) == subdomain))
    if existing is not None:
        return existing
    parent = await session.scalar(
        select(Organization).where(col(Organization.name) == organization).limit(1)
    )
    if parent is None:
        parent = Organization(name=organization)
        session.add(parent)
        await session.flush()
    made = Tenant(organization_id=parent.id, name=tenant, subdomain=subdomain)
    session.add(made)
    await session.flush()
    return made


async def find_user_anywhere(session: AsyncSession, email: str) -> User | None:
    """Return the user with an e-mail address. Needs the owner's role."""
    return await session.scalar(select(User).where(col(User.email) == email.lower()))


async def grant_platform_role(
    session: AsyncSession, *, tenant_id: UUID, user_id: UUID, role: str
) -> None:
    """Give a user one of the platform's own roles; having it already is no error."""
    role_id = await session.scalar(
        select(Role.id).where(col(Role.name) == role, col(Role.tenant_id).is_(None))
    )
    await session.execute(
        insert(UserRole)
        .values(user_id=user_id, role_id=role_id, tenant_id=tenant_id)
        .on_conflict_do_nothing()
    )
