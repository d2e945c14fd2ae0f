"""Which devices a model is fitted on and which only judge it."""

import hashlib
from collections.abc import Iterable
from uuid import UUID

from mlops.errors import NotEnoughDataError

MIN_DEVICES = 5
"""Fewer failed devices than this say nothing about a device that was not among them."""


def _place(device_id: UUID) -> float:
    """Return a number in [0, 1) that is the same for a device for ever."""
    return int.from_bytes(hashlib.sha256(device_id.bytes).digest()[:8]) / 2**64


def split_devices(devices: Iterable[UUID], holdout: float) -> tuple[list[UUID], list[UUID]]:
    """Divide devices into those to fit on and those to hold out.

    Whole devices, never rows: neighbouring cycles of one device are nearly the same, so a split
    by rows would judge a model on what it has seen. A device stays on its side when others come
    or go, so a later model can be compared with an earlier one on devices that neither has seen.

    Raises:
        NotEnoughDataError: Fewer than `MIN_DEVICES`.
    """
    ordered = sorted(set(devices), key=_place)
    if len(ordered) < MIN_DEVICES:
        raise NotEnoughDataError(
            f"{len(ordered)} devices have failed so far; training needs at least {MIN_DEVICES}"
        )
    held = [device for device in ordered if _place(device) < holdout]
    # With few devices chance may leave a side nearly empty, and what one held-out device says of
    # probabilities is "one in two", whatever the model predicts.
    least = max(2, round(len(ordered) * holdout / 2))
    held = ordered[: min(max(len(held), least), len(ordered) - 2)]
    return [device for device in ordered if device not in set(held)], held
