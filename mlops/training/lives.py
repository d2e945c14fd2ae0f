"""The frozen dataset: lives of devices that ended in a failure, in parquet parts."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlops.features import BASELINE, History
from mlops.features.build import columns_of
from mlops.features.rolling import FloatArray
from mlops.features.spec import AGE_LIMIT
from mlops.files import open_sealed, replace_atomically, seal

MAX_CYCLES = AGE_LIMIT
"""Newest cycles of a life that are read; older ones are far beyond any cap on the target."""

_PART_ROWS = 50_000
_METRIC = "m."  # so that no metric's name collides with a column of ours


@dataclass(frozen=True, slots=True)
class Life:
    """One life of one device, up to its failure.

    Attributes:
        number: Counts the lives of a device from 0.
    """

    device_id: UUID
    number: int
    history: History

    def remaining(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the cycles until the failure for cycles of this life; 0 for the last."""
        return self.history.total - 1 - positions


class SnapshotWriter:
    """Writes lives into a folder; memory holds one part at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[pl.DataFrame] = []
        self._waiting_rows = 0
        self._parts = 0
        self._metrics: dict[str, None] = {}
        self._devices: set[UUID] = set()
        self.rows = 0
        self.lives = 0
        self.started: datetime | None = None
        self.ended: datetime | None = None

    @property
    def devices(self) -> int:
        """Devices written so far."""
        return len(self._devices)

    def add(self, life: Life, started: datetime, ended: datetime) -> None:
        """Write one life; `started` and `ended` are the times of its oldest and newest cycle."""
        history = life.history
        start = history.total - len(history.recent)
        # In a long life there is a gap between the first cycles and the recent ones.
        early = history.first[: min(BASELINE, start)]
        x = np.vstack([early, history.recent])
        positions = np.concatenate([np.arange(len(early)), np.arange(start, history.total)])
        frame = pl.DataFrame(
            {
                "device_id": [str(life.device_id)] * len(x),
                "life": np.full(len(x), life.number, np.int32),
                "position": positions,
                **{f"{_METRIC}{name}": x[:, i] for i, name in enumerate(history.metrics)},
            }
        )
        self._waiting.append(frame)
        self._waiting_rows += len(frame)
        self._metrics.update(dict.fromkeys(history.metrics))
        self._devices.add(life.device_id)
        self.rows += len(frame)
        self.lives += 1
        self.started = min(self.started or started, started)
        self.ended = max(self.ended or ended, ended)
        if self._waiting_rows >= _PART_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        part = pl.concat(self._waiting, how="diagonal")
        path = self._folder / f"part-{self._parts:05d}.parquet"
        replace_atomically(path, part.write_parquet)
        self._parts += 1
        self._waiting, self._waiting_rows = [], 0

    def finish(self) -> str:
        """Write what is left and the manifest; return the manifest's digest."""
        self._flush()
        return seal(self._folder, {"metrics": list(self._metrics)})


class Snapshot:
    """Reads what `SnapshotWriter` wrote, after checking it."""

    def __init__(self, folder: Path, sha256: str) -> None:
        manifest = open_sealed(folder, sha256)
        self.metrics: tuple[str, ...] = tuple(manifest["metrics"])  # type: ignore[arg-type]  # JSON
        self._parts = sorted(folder.glob("part-*.parquet"))

    def lives(self) -> Iterator[Life]:
        """Yield every life, with all metrics of the dataset; memory holds one part."""
        for path in self._parts:
            frame = pl.read_parquet(path)
            names = [name for name in frame.columns if name.startswith(_METRIC)]
            for _, rows in frame.group_by(["device_id", "life"], maintain_order=True):
                x = rows.select(names).fill_null(np.nan).to_numpy()
                yield self._life(rows, [name.removeprefix(_METRIC) for name in names], x)

    def _life(self, rows: pl.DataFrame, names: list[str], x: FloatArray) -> Life:
        x = columns_of(names, self.metrics, x)
        positions = rows["position"].to_numpy()
        total = int(positions[-1]) + 1
        # The recent rows are those after the last gap.
        gaps = np.flatnonzero(np.diff(positions) > 1)
        recent = x[int(gaps[-1]) + 1 :] if len(gaps) else x
        return Life(
            device_id=UUID(rows["device_id"][0]),
            number=int(rows["life"][0]),
            history=History(self.metrics, x[:BASELINE], recent, total),
        )
