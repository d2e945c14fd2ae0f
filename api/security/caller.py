"""The signed-in caller of one request."""

from dataclasses import dataclass
from uuid import UUID

from core.errors import PermissionDeniedError


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the access token says.

    Attributes:
        expires_at: Epoch seconds at which the token ends.
    """

    user_id: UUID
    tenant_id: UUID
    organization_id: UUID
    session_id: UUID
    roles: tuple[str, ...]
    permissions: frozenset[str]
    mfa_verified: bool
    expires_at: int

    def require(self, permission: str) -> None:
        """Check one permission.

        Raises:
            PermissionDeniedError: The caller does not have it.
        """
        if permission not in self.permissions:
            raise PermissionDeniedError(f"This needs the permission {permission}.")
