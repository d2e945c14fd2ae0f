"""Payload encryption: what Temporal stores and shows is ciphertext to whoever lacks the key."""

import zlib
from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from core.crypto import Vault

_ENCODING = b"binary/encrypted"
_COMPRESSED = b"binary/zlib-encrypted"
# Temporal refuses payloads above 2 MB: long lists (10,000 devices of a bulk) must fit, and
# ciphertext cannot be compressed any more. Small payloads are not worth the time.
_COMPRESS_FROM = 16 * 1024


class EncryptionCodec(PayloadCodec):
    """AES-256-GCM over every payload."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt; compress before when it is large."""
        return [self._seal(payload.SerializeToString()) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what was encrypted, pass on the rest.

        Raises:
            DecryptionError: Written with another key.
        """
        return [self._open(payload) for payload in payloads]

    def _seal(self, plain: bytes) -> Payload:
        encoding = _ENCODING
        if len(plain) >= _COMPRESS_FROM:
            encoding, plain = _COMPRESSED, zlib.compress(plain)
        return Payload(metadata={"encoding": encoding}, data=self._vault.encrypt(plain))

    def _open(self, payload: Payload) -> Payload:
        encoding = payload.metadata.get("encoding")
        if encoding not in (_ENCODING, _COMPRESSED):
            return payload
        plain = self._vault.decrypt(payload.data)
        return Payload.FromString(zlib.decompress(plain) if encoding == _COMPRESSED else plain)
