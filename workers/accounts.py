"""Accounts, as the command line manages them: with the owner's role, past every tenant."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from api.security.passwords import Passwords, generate_password
from core.db.repositories import accounts as repository
from core.db.repositories import audit, identity
from core.db.repositories.accounts import Account
from core.db.session import Database
from core.errors import NotFoundError
from core.settings import Settings


@asynccontextmanager
async def _owner(settings: Settings) -> AsyncGenerator[AsyncSession]:
    database = Database.connect(settings, "owner")
    try:
        async with database.transaction(None) as session:
            yield session
    finally:
        await database.close()


async def is_empty(settings: Settings) -> bool:
    """Tell whether the installation has no tenant yet."""
    async with _owner(settings) as session:
        return not await repository.any_tenant(session)


async def list_accounts(settings: Settings) -> list[Account]:
    """Return every user of every tenant."""
    async with _owner(settings) as session:
        return await repository.accounts(session)


async def reset_password(settings: Settings, email: str) -> str:
    """Give a user a new password and end all their sessions.

    Returns:
        The password, which is stored nowhere in the clear.

    Raises:
        NotFoundError: Nobody has this e-mail address.
    """
    password = generate_password()
    encrypted = await Passwords().hash(password)
    async with _owner(settings) as session:
        user = await identity.find_user_anywhere(session, email)
        if user is None:
            raise NotFoundError(f"nobody has the e-mail address {email}")
        await identity.replace_password(session, user.id, encrypted)
        ended = await repository.end_sessions(session, user.id, "password_reset")
        audit.record(
            session,
            tenant_id=user.tenant_id,
            user_id=None,
            action="user.password_reset",
            resource_type="user",
            resource_id=str(user.id),
            details={"sessions_ended": ended},
            address="",
        )
    return password
