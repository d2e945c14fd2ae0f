"""Temporal sees ciphertext only, and large payloads small."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload

from core.crypto import DecryptionError, Vault
from core.temporal.codec import EncryptionCodec


def codec() -> EncryptionCodec:
    return EncryptionCodec(Vault(base64.b64encode(os.urandom(32)).decode()))


CODEC = codec()

payloads = st.builds(
    lambda data, times, metadata: Payload(data=data * times, metadata=metadata),
    st.binary(),
    st.sampled_from([1, 5000]),
    st.dictionaries(st.text(max_size=5), st.binary(max_size=5), max_size=2),
)


@given(st.lists(payloads, max_size=3))
async def test_payloads_come_back_as_they_were(given_payloads: list[Payload]) -> None:
    assert await CODEC.decode(await CODEC.encode(given_payloads)) == given_payloads


@pytest.mark.parametrize("times", [1, 5000])
async def test_nothing_of_a_payload_can_be_read(times: int) -> None:
    plain = Payload(data=b"the secret of the plant" * times, metadata={"encoding": b"json/plain"})
    [sealed] = await CODEC.encode([plain])
    stored = sealed.SerializeToString()
    assert b"secret" not in stored
    assert b"json/plain" not in stored


async def test_a_large_payload_is_compressed() -> None:
    [sealed] = await CODEC.encode([Payload(data=b'{"lifecycle":"pending"},' * 50_000)])
    assert sealed.ByteSize() < 50_000


async def test_a_payload_of_somebody_who_does_not_encrypt_is_passed_on() -> None:
    plain = Payload(data=b"{}", metadata={"encoding": b"json/plain"})
    assert await CODEC.decode([plain]) == [plain]


@pytest.mark.parametrize("size", [10, 100_000])
async def test_another_key_does_not_open_it(size: int) -> None:
    sealed = await codec().encode([Payload(data=bytes(size))])
    with pytest.raises(DecryptionError):
        await CODEC.decode(sealed)
