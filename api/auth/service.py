"""Signing in, rotating tokens, signing out."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth.schemas import LoginForm, MeView, OrganizationView, TenantView, TokensView, UserView
from api.security.caller import Caller
from api.services import Services
from api.work import Work
from core.db.repositories import audit, identity
from core.db.repositories.identity import Login
from core.db.tables import UserSession
from core.errors import NotAuthenticatedError, NotFoundError

logger = structlog.get_logger(__name__)

_USER_AGENT = 500


async def login(services: Services, form: LoginForm, *, address: str, agent: str) -> TokensView:
    """Open a session.

    Raises:
        NotAuthenticatedError: Unknown address, wrong password, or a user or tenant not active;
            the answer does not say which.
        TooManyRequestsError: Too many failures lately.
    """
    await services.throttle.check(form.email, address)
    async with services.database.transaction(None) as session:
        found = await identity.find_login(session, form.email)
    # No transaction is held here: hashes queue up under attack, connections must not.
    right, renewed = await services.passwords.verify(
        form.password, None if found is None else found.encrypted_password
    )
    if found is None or not right or not found.active:
        await services.throttle.failed(form.email, address)
        if found is not None:
            async with services.database.transaction(found.tenant_id) as session:
                _record(session, found, "auth.login_failed", address, reason="refused")
        raise NotAuthenticatedError("The e-mail address or the password is wrong.")
    tokens = await _open_session(services, found, renewed, address=address, agent=agent)
    await services.throttle.succeeded(form.email, address)
    return tokens


async def _open_session(
    services: Services, user: Login, renewed_hash: str | None, *, address: str, agent: str
) -> TokensView:
    now = datetime.now(UTC)
    opened = UserSession(
        tenant_id=user.tenant_id,
        user_id=user.user_id,
        refresh_id=uuid4(),
        user_agent=agent[:_USER_AGENT].replace("\x00", ""),
        address=address,
        expires_at=now + timedelta(seconds=services.tokens.refresh_seconds),
    )
    async with services.database.transaction(user.tenant_id) as session:
        session.add(opened)
        await identity.record_login(session, user.user_id, now)
        if renewed_hash is not None:
            await identity.replace_password(session, user.user_id, renewed_hash)
        granted = await identity.grants(session, user.user_id)
        _record(session, user, "auth.login", address, session_id=str(opened.id))
    return _tokens(services, user.organization_id, opened, granted)


async def refresh(services: Services, token: str, *, address: str) -> TokensView:
    """Exchange a refresh token for new tokens; the old one is good no more.

    Raises:
        NotAuthenticatedError: It is not valid, or was used before: then the session ends, because
            one of its two users must have stolen it.
    """
    claims = services.tokens.read_refresh(token)
    async with services.database.transaction(None) as session:
        tenant_id = await identity.session_tenant(session, claims.session_id)
    if tenant_id is None:
        raise NotAuthenticatedError("The session has ended.")
    async with services.database.transaction(tenant_id) as session:
        held = await identity.lock_session(session, claims.session_id)
        live = held is not None and await identity.session_is_live(session, claims.session_id)
        replayed = held is not None and held.refresh_id != claims.refresh_id
        tokens = None
        if held is not None and live and replayed:
            # Raising in here would roll the end of the session back.
            await identity.end_session(session, held.id, "refresh_token_replayed")
            audit.record(
                session,
                tenant_id=tenant_id,
                user_id=held.user_id,
                action="auth.refresh_replayed",
                resource_type="session",
                resource_id=str(held.id),
                details={},
                address=address,
            )
        elif held is not None and live:
            owner = await identity.get_tenant(session, tenant_id)
            if owner is not None:
                now = datetime.now(UTC)
                held.refresh_id = uuid4()
                held.last_used_at = now
                held.expires_at = now + timedelta(seconds=services.tokens.refresh_seconds)
                granted = await identity.grants(session, held.user_id)
                tokens = _tokens(services, owner[1].id, held, granted)
    if tokens is None:
        if live and replayed:
            logger.warning("auth.refresh_replayed", session_id=str(claims.session_id))
        await services.sessions.forget(claims.session_id)
        raise NotAuthenticatedError("The session has ended.")
    return tokens


async def logout(services: Services, caller: Caller, *, address: str) -> None:
    """End the caller's session: its tokens are good no more."""
    async with services.database.transaction(caller.tenant_id) as session:
        await identity.end_session(session, caller.session_id, "logout")
        audit.record(
            session,
            tenant_id=caller.tenant_id,
            user_id=caller.user_id,
            action="auth.logout",
            resource_type="session",
            resource_id=str(caller.session_id),
            details={},
            address=address,
        )
    await services.sessions.forget(caller.session_id)


async def me(work: Work) -> MeView:
    """Describe the caller.

    Raises:
        NotFoundError: The user was deleted meanwhile.
    """
    user = await identity.get_user(work.session, work.caller.user_id)
    owner = await identity.get_tenant(work.session, work.tenant_id)
    if user is None or owner is None:
        raise NotFoundError("The user no longer exists.")
    return MeView(
        user=UserView.model_validate(user),
        tenant=TenantView.model_validate(owner[0]),
        organization=OrganizationView.model_validate(owner[1]),
        roles=list(work.caller.roles),
        permissions=sorted(work.caller.permissions),
        session_id=work.caller.session_id,
        mfa_verified=work.caller.mfa_verified,
        token_expires_at=work.caller.expires_at,
    )


def _tokens(
    services: Services, organization_id: UUID, held: UserSession, granted: identity.Grants
) -> TokensView:
    return TokensView(
        access_token=services.tokens.issue_access(
            user_id=held.user_id,
            tenant_id=held.tenant_id,
            organization_id=organization_id,
            session_id=held.id,
            grants=granted,
        ),
        refresh_token=services.tokens.issue_refresh(
            user_id=held.user_id, session_id=held.id, refresh_id=held.refresh_id
        ),
        expires_in=services.tokens.access_seconds,
        session_id=held.id,
    )


def _record(session: AsyncSession, user: Login, action: str, address: str, **details: str) -> None:
    audit.record(
        session,
        tenant_id=user.tenant_id,
        user_id=user.user_id,
        action=action,
        resource_type="user",
        resource_id=str(user.user_id),
        details=details,
        address=address,
    )
