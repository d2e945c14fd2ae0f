"""Devices are held out whole, and for ever."""

from uuid import UUID

import pytest

from mlops.errors import NotEnoughDataError
from mlops.training.split import split_devices

DEVICES = [UUID(int=number) for number in range(100)]


def test_every_device_is_on_one_side() -> None:
    trained_on, held_out = split_devices(DEVICES, 0.2)
    assert sorted([*trained_on, *held_out]) == DEVICES
    assert 10 <= len(held_out) <= 30


def test_a_device_stays_held_out_when_others_come() -> None:
    _, before = split_devices(DEVICES, 0.2)
    trained_on, after = split_devices([*DEVICES, *(UUID(int=n) for n in range(500, 700))], 0.2)
    assert set(before) <= set(after)
    assert not set(before) & set(trained_on)


@pytest.mark.parametrize("holdout", [0.0, 1.0])
def test_neither_side_is_ever_empty(holdout: float) -> None:
    trained_on, held_out = split_devices(DEVICES[:5], holdout)
    assert trained_on
    assert held_out


def test_too_few_devices_are_named() -> None:
    with pytest.raises(NotEnoughDataError, match="4 devices have failed so far"):
        split_devices(DEVICES[:4], 0.2)


@pytest.mark.parametrize("first", range(40))
def test_of_few_devices_at_least_two_are_held_out(first: int) -> None:
    _, held_out = split_devices([UUID(int=first * 100 + n) for n in range(12)], 0.3)
    assert len(held_out) >= 2
