"""Access and refresh tokens: JWT (RFC 7519) signed with Ed25519 (RFC 8037)."""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from api.security.caller import Caller
from core.db.repositories.identity import Grants
from core.errors import NotAuthenticatedError
from core.settings import Settings

ISSUER = "iotlinker"
_ALGORITHM = "EdDSA"
_LEEWAY = 5  # seconds that clocks of API processes may differ


class _Ed25519(JWSAlgModel):
    """`EdDSA`, for Ed25519 keys alone.

    RFC 9864 deprecates the name because it also covers Ed448, and the library warns of it; every
    other implementation still expects the name, and here it can mean one curve only.
    """

    name = _ALGORITHM
    description = "EdDSA with Ed25519"
    key_type = "OKP"
    recommended = True

    def sign(self, msg: bytes, key: OKPKey) -> bytes:
        private = key.get_op_key("sign")
        if not isinstance(private, Ed25519PrivateKey):
            raise TypeError("the signing key is not an Ed25519 key")
        return private.sign(msg)

    def verify(self, msg: bytes, sig: bytes, key: OKPKey) -> bool:
        public = key.get_op_key("verify")
        if not isinstance(public, Ed25519PublicKey):
            raise TypeError("the signing key is not an Ed25519 key")
        try:
            public.verify(sig, msg)
        except InvalidSignature:
            return False
        return True


class _Registry(JWSRegistry):
    """Knows one algorithm, so that no token can choose another."""

    def get_alg(self, name: str) -> JWSAlgModel:
        if name != _ALGORITHM:
            raise UnsupportedAlgorithmError(f"algorithm {name!r} is not used here")
        return _Ed25519()


@dataclass(frozen=True, slots=True)
class RefreshClaims:
    """What a refresh token says.

    Attributes:
        refresh_id: The token's own id; only the session's newest one is good.
    """

    user_id: UUID
    session_id: UUID
    refresh_id: UUID


class Tokens:
    """Issues and reads tokens under the installation's signing key."""

    def __init__(self, settings: Settings) -> None:
        self._key = OKPKey.import_key(settings.secrets.signing_key.encode())
        self._registry = _Registry()
        self.access_seconds = settings.api.access_token_seconds
        self.refresh_seconds = settings.api.refresh_token_seconds

    def issue_access(
        self,
        *,
        user_id: UUID,
        tenant_id: UUID,
        organization_id: UUID,
        session_id: UUID,
        grants: Grants,
    ) -> str:
        """Return an access token with the requirements' claims."""
        return self._encode(
            user_id,
            self.access_seconds,
            token_type="access",  # noqa: S106  (the claim's value, no secret)
            tenant_id=str(tenant_id),
            organization_id=str(organization_id),
            roles=list(grants.roles),
            permissions=list(grants.permissions),
            session_id=str(session_id),
            mfa_verified=False,
        )

    def issue_refresh(self, *, user_id: UUID, session_id: UUID, refresh_id: UUID) -> str:
        """Return a refresh token."""
        return self._encode(
            user_id,
            self.refresh_seconds,
            token_type="refresh",  # noqa: S106  (the claim's value, no secret)
            session_id=str(session_id),
            jti=str(refresh_id),
        )

    def read_access(self, token: str) -> Caller:
        """Return the caller a token speaks for.

        Raises:
            NotAuthenticatedError: It is not a valid access token of ours, or is over.
        """
        claims = self._decode(token, "access")
        try:
            return Caller(
                user_id=UUID(claims["sub"]),
                tenant_id=UUID(claims["tenant_id"]),
                organization_id=UUID(claims["organization_id"]),
                session_id=UUID(claims["session_id"]),
                roles=tuple(claims["roles"]),
                permissions=frozenset(claims["permissions"]),
                mfa_verified=bool(claims["mfa_verified"]),
                expires_at=int(claims["exp"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NotAuthenticatedError("The access token lacks claims.") from error

    def read_refresh(self, token: str) -> RefreshClaims:
        """Return what a refresh token says.

        Raises:
            NotAuthenticatedError: It is not a valid refresh token of ours, or is over.
        """
        claims = self._decode(token, "refresh")
        try:
            return RefreshClaims(
                user_id=UUID(claims["sub"]),
                session_id=UUID(claims["session_id"]),
                refresh_id=UUID(claims["jti"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NotAuthenticatedError("The refresh token lacks claims.") from error

    def _encode(self, user_id: UUID, seconds: int, **claims: Any) -> str:
        now = int(time.time())
        return jwt.encode(
            {"alg": _ALGORITHM},
            {"sub": str(user_id), "iat": now, "exp": now + seconds, "iss": ISSUER, **claims},
            self._key,
            registry=self._registry,
        )

    def _decode(self, token: str, token_type: str) -> dict[str, Any]:
        try:
            claims = jwt.decode(token, self._key, registry=self._registry).claims
        except (JoseError, ValueError, TypeError) as error:
            # A token is outside input: whatever it makes the library raise means "not ours".
            raise NotAuthenticatedError("The token is not valid.") from error
        if claims.get("iss") != ISSUER or claims.get("token_type") != token_type:
            raise NotAuthenticatedError("The token is of another kind.")
        expires = claims.get("exp")
        if not isinstance(expires, int) or expires + _LEEWAY <= time.time():
            raise NotAuthenticatedError("The token is over.")
        return claims
