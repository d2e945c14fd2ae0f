"""The connection to Temporal."""

import dataclasses

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter

from core.crypto import Vault
from core.settings import Settings
from core.temporal.codec import EncryptionCodec


def data_converter(settings: Settings) -> DataConverter:
    """Return the converter every client and worker uses: pydantic models, encrypted."""
    return dataclasses.replace(
        pydantic_data_converter,
        payload_codec=EncryptionCodec(Vault(settings.secrets.payload_key)),
    )


async def connect(settings: Settings, *, lazy: bool = False) -> Client:
    """Connect to the Temporal frontend.

    Args:
        settings: Address, namespace, key.
        lazy: Connect at the first call, for processes that must start while Temporal is down.
    """
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal.namespace,
        api_key=settings.temporal.api_key,
        tls=settings.temporal.tls or settings.temporal.api_key is not None,
        data_converter=data_converter(settings),
        lazy=lazy,
    )
