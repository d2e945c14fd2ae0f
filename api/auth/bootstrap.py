"""The first tenant and its administrator, made by the command line."""

from uuid import UUID

from api.security.passwords import Passwords, generate_password
from core.db.repositories import audit, identity
from core.db.session import Database
from core.db.tables import User
from core.errors import ConflictError
from core.settings import Settings

ADMINISTRATOR_ROLES = ("super_admin", "tenant_admin")


async def create_administrator(
    settings: Settings,
    *,
    organization: str,
    tenant: str,
    subdomain: str,
    email: str,
    password: str | None = None,
) -> tuple[UUID, str | None]:
    """Make sure that a tenant and its administrator exist. Acts as the owner of the tables.

    Args:
        settings: Where the database is.
        organization: Name of the organization, made if it is new.
        tenant: Name of the tenant, made if nothing is at `subdomain`.
        subdomain: Short name of the tenant, unique.
        email: The administrator signs in with it.
        password: None lets one be generated.

    Returns:
        The tenant, and the password if one was generated now; None when it was given, or when
        the user exists, whose password is then left alone.

    Raises:
        ConflictError: The e-mail address belongs to a user of another tenant.
    """
    generated = generate_password() if password is None else None
    encrypted = await Passwords().hash(password or generated or "")
    database = Database.connect(settings, "owner")
    try:
        async with database.transaction(None) as session:
            place = await identity.ensure_tenant(
                session, organization=organization, tenant=tenant, subdomain=subdomain
            )
            user = await identity.find_user_anywhere(session, email)
            if user is not None and user.tenant_id != place.id:
                raise ConflictError(f"{email} belongs to a user of another tenant")
            created = user is None
            if user is None:
                user = User(tenant_id=place.id, email=email.lower(), encrypted_password=encrypted)
                session.add(user)
                await session.flush()
                audit.record(
                    session,
                    tenant_id=place.id,
                    user_id=None,
                    action="user.created",
                    resource_type="user",
                    resource_id=str(user.id),
                    details={"roles": list(ADMINISTRATOR_ROLES)},
                    address="",
                )
            for role in ADMINISTRATOR_ROLES:
                await identity.grant_platform_role(
                    session, tenant_id=place.id, user_id=user.id, role=role
                )
            return place.id, generated if created else None
    finally:
        await database.close()
