"""Encryption of secrets at rest, and the small hashes the platform relies on."""

import base64
import hashlib
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12  # bytes; NIST SP 800-38D, 8.2.2 (random nonces)


class DecryptionError(ValueError):
    """The ciphertext was altered, cut, or written with another key."""


class Vault:
    """AES-256-GCM under one key.

    Args:
        key: 32 bytes in base64.
    """

    def __init__(self, key: str) -> None:
        self._cipher = AESGCM(base64.b64decode(key))

    def encrypt(self, plain: bytes, context: bytes = b"") -> bytes:
        """Return nonce and ciphertext; `context` must be repeated to decrypt."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, context)

    def decrypt(self, sealed: bytes, context: bytes = b"") -> bytes:
        """Return what was encrypted.

        Raises:
            DecryptionError: It is not what this key encrypted in this context.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
        except (InvalidTag, ValueError) as error:
            raise DecryptionError("cannot be decrypted with this key") from error


def new_device_key() -> str:
    """Return a device key with 256 bits of entropy."""
    return secrets.token_urlsafe(32)


def device_key_digest(key: str) -> bytes:
    """Return the SHA-256 under which a device key is stored.

    A fast hash is right here: the key is random and long, so it cannot be guessed offline, and a
    broker must check thousands a second.
    """
    return hashlib.sha256(key.encode()).digest()
