"""Passwords: Argon2id, away from the event loop, a bounded number at a time."""

import asyncio
import secrets

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

_PARALLEL = 2
"""Hashes computed at once; each takes 64 MiB and a core for tens of milliseconds."""


class Passwords:
    """Hashes and verifies passwords.

    The parameters are the library's: 64 MiB, 3 passes, 4 lanes (RFC 9106, 4, second choice).
    """

    def __init__(self) -> None:
        self._hash = PasswordHash((Argon2Hasher(),))
        self._slots = asyncio.Semaphore(_PARALLEL)
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        """Return the encoded hash of a password."""
        async with self._slots:
            return await asyncio.to_thread(self._hash.hash, password)

    async def verify(self, password: str, encoded: str | None) -> tuple[bool, str | None]:
        """Tell whether a password is right.

        Args:
            password: What was entered.
            encoded: The stored hash; None for an unknown user, which costs the same time, so
                that answers do not tell who has an account.

        Returns:
            Whether it is right, and a new hash to store when the parameters have changed.
        """
        if encoded is None:
            if self._decoy is None:
                self._decoy = await self.hash(secrets.token_urlsafe(16))
            async with self._slots:
                await asyncio.to_thread(self._hash.verify, password, self._decoy)
            return False, None
        async with self._slots:
            return await asyncio.to_thread(self._hash.verify_and_update, password, encoded)


def generate_password() -> str:
    """Return a password with 120 bits of entropy."""
    return secrets.token_urlsafe(15)
