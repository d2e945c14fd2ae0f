"""What the vault encrypts, only the same key opens, in the same context, unaltered."""

import base64
import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import DecryptionError, Vault, device_key_digest, new_device_key


def vault() -> Vault:
    return Vault(base64.b64encode(os.urandom(32)).decode())


VAULT = vault()


@given(st.binary(), st.binary())
def test_what_is_encrypted_comes_back(plain: bytes, context: bytes) -> None:
    assert VAULT.decrypt(VAULT.encrypt(plain, context), context) == plain


@given(st.binary(), st.data())
def test_one_altered_bit_is_noticed(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(VAULT.encrypt(plain))
    position = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[position // 8] ^= 1 << position % 8
    with pytest.raises(DecryptionError):
        VAULT.decrypt(bytes(sealed))


@given(st.binary(max_size=200))
def test_what_was_never_encrypted_is_refused(rubbish: bytes) -> None:
    with pytest.raises(DecryptionError):
        VAULT.decrypt(rubbish)


def test_another_key_or_context_does_not_open_it() -> None:
    sealed = VAULT.encrypt(b"secret", b"row 1")
    with pytest.raises(DecryptionError):
        VAULT.decrypt(sealed, b"row 2")
    with pytest.raises(DecryptionError):
        vault().decrypt(sealed, b"row 1")


def test_the_same_plain_text_looks_different_every_time() -> None:
    assert len({VAULT.encrypt(b"secret") for _ in range(100)}) == 100


def test_device_keys_are_long_distinct_and_stored_as_sha256() -> None:
    keys = {new_device_key() for _ in range(100)}
    assert len(keys) == 100
    for key in keys:
        assert len(base64.urlsafe_b64decode(key + "==")) == 32
        assert device_key_digest(key) == hashlib.sha256(key.encode()).digest()
