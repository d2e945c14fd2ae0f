"""Payload encryption: what Temporal stores and shows is ciphertext to whoever lacks the key."""

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from core.crypto import Vault

_ENCODING = b"binary/encrypted"


class EncryptionCodec(PayloadCodec):
    """AES-256-GCM over every payload."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt."""
        return [
            Payload(
                metadata={"encoding": _ENCODING},
                data=self._vault.encrypt(payload.SerializeToString()),
            )
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what was encrypted, pass on the rest.

        Raises:
            DecryptionError: Written with another key.
        """
        return [
            Payload.FromString(self._vault.decrypt(payload.data))
            if payload.metadata.get("encoding") == _ENCODING
            else payload
            for payload in payloads
        ]
