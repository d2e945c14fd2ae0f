"""NASA's turbofan engines, C-MAPSS set FD001 (see examples/turbofan/README.md).

A. Saxena, K. Goebel, D. Simon and N. Eklund, "Damage Propagation Modeling for Aircraft Engine
Run-to-Failure Simulation", PHM08, 2008; NASA Ames Prognostics Center of Excellence.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigurationError
from mlops.history import HistoricalDevice

FOLDER: Final = Path(__file__).resolve().parents[2] / "examples" / "turbofan"

SENSORS: Final = (
    "T2",
    "T24",
    "T30",
    "T50",
    "P2",
    "P15",
    "P30",
    "Nf",
    "Nc",
    "epr",
    "Ps30",
    "phi",
    "NRf",
    "NRc",
    "BPR",
    "farB",
    "htBleed",
    "Nf_dmd",
    "PCNfR_dmd",
    "W31",
    "W32",
)
"""The 21 sensors in the order of the files, by the names of the set's documentation."""

_FIRST_SENSOR = 5  # after unit, cycle and three operational settings


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        unit: Its number in the file, from 1.
        cycles: Cycles x `SENSORS`, in time order.
        remaining: True remaining cycles after the last one; 0 in the training set.
    """

    unit: int
    cycles: NDArray[np.float64]
    remaining: int


def _rows(path: Path) -> NDArray[np.float64]:
    try:
        with gzip.open(path, "rt") as file:
            return np.loadtxt(file, ndmin=2)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} is missing; it comes with the source tree") from error


def _engines(path: Path) -> list[tuple[int, NDArray[np.float64]]]:
    rows = _rows(path)
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
    return [
        (int(part[0, 0]), part[:, _FIRST_SENSOR:]) for part in np.split(rows, starts[1:].tolist())
    ]


def training_engines(folder: Path = FOLDER) -> list[Engine]:
    """Return the 100 engines that ran to failure.

    Raises:
        ConfigurationError: The file is not there.
    """
    return [Engine(unit, cycles, 0) for unit, cycles in _engines(folder / "train_FD001.txt.gz")]


def engines_under_test(folder: Path = FOLDER) -> list[Engine]:
    """Return the 100 engines that were cut off, with their true remaining life.

    Raises:
        ConfigurationError: A file is not there.
    """
    truth = _rows(folder / "RUL_FD001.txt.gz")[:, 0].astype(int).tolist()
    engines = _engines(folder / "test_FD001.txt.gz")
    return [
        Engine(unit, cycles, remaining)
        for (unit, cycles), remaining in zip(engines, truth, strict=True)
    ]


def historical_devices(folder: Path = FOLDER) -> list[HistoricalDevice]:
    """Return the training engines as devices `train-001` to `train-100` for `import_history`."""
    return [
        HistoricalDevice(
            name=f"train-{engine.unit:03d}",
            metrics=SENSORS,
            cycles=engine.cycles,
            labels={"source": "NASA C-MAPSS FD001", "unit": engine.unit},
        )
        for engine in training_engines(folder)
    ]
