"""Accounts of all tenants, as whoever runs the installation sees them. Needs the owner's role."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from core.db.tables import Role, Tenant, User, UserRole, UserSession


@dataclass(frozen=True, slots=True)
class Account:
    """A user and where they belong."""

    email: str
    tenant: str
    roles: tuple[str, ...]
    active: bool
    last_login: datetime | None


async def any_tenant(session: AsyncSession) -> bool:
    """Tell whether the installation has a tenant at all."""
    return await session.scalar(select(col(Tenant.id)).limit(1)) is not None


async def accounts(session: AsyncSession) -> list[Account]:
    """Return every user of every tenant, by tenant and e-mail address."""
    roles = sa.func.array_agg(aggregate_order_by(col(Role.name), col(Role.name)))
    rows = await session.execute(
        sa.select(
            col(User.email),
            col(Tenant.name),
            roles.filter(col(Role.name).is_not(None)),
            col(User.active),
            col(User.last_login),
        )
        .join(Tenant, col(Tenant.id) == col(User.tenant_id))
        .join(UserRole, col(UserRole.user_id) == col(User.id), isouter=True)
        .join(Role, col(Role.id) == col(UserRole.role_id), isouter=True)
        .group_by(col(User.id), col(Tenant.id))
        .order_by(col(Tenant.name), col(User.email))
    )
    return [
        Account(email, tenant, tuple(names or ()), active, last_login)
        for email, tenant, names, active, last_login in rows
    ]


async def end_sessions(session: AsyncSession, user_id: UUID, reason: str) -> int:
    """End every session of a user; return how many there were."""
    ended = await session.execute(
        sa.update(UserSession)
        .where(col(UserSession.user_id) == user_id, col(UserSession.ended_at).is_(None))
        .values(ended_at=datetime.now(UTC), end_reason=reason)
        .returning(col(UserSession.id))
    )
    return len(ended.all())
