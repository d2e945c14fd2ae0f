"""The training matrix: metrics worth keeping, features of every cycle, targets."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlops.errors import NotEnoughDataError
from mlops.features import FeatureSpec, compute
from mlops.files import open_sealed, replace_atomically, seal
from mlops.training.lives import Life, Snapshot

MAX_ROWS = 400_000
"""Rows that are fitted on at most: some 800 MB of features with fifty metrics."""

_FILE = "features.parquet"
_TARGET = "target"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Features and targets (capped remaining cycles), a row per cycle."""

    spec: FeatureSpec
    x: NDArray[np.float32]
    y: NDArray[np.float32]


def varying_metrics(snapshot: Snapshot, trained_on: Collection[UUID]) -> tuple[str, ...]:
    """Return the metrics that vary in the training devices; the others carry no information.

    Raises:
        NotEnoughDataError: None varies.
    """
    low = np.full(len(snapshot.metrics), np.inf)
    high = -low
    for life in snapshot.lives():
        if life.device_id in trained_on:
            low = np.fmin(low, np.fmin.reduce(life.history.recent, axis=0))
            high = np.fmax(high, np.fmax.reduce(life.history.recent, axis=0))
    # Relative, because a constant in single precision still trembles in its last digit.
    scale = np.maximum(np.abs(low), np.abs(high))
    kept = tuple(
        name
        for name, varies in zip(snapshot.metrics, high - low > 1e-7 * scale, strict=True)
        if varies
    )
    if not kept:
        raise NotEnoughDataError("no metric of the failed devices ever changes")
    return kept


def _thinned(life: Life, spec: FeatureSpec, stride: int) -> tuple[NDArray[np.float32], np.ndarray]:
    features = compute(spec, life.history)
    remaining = life.remaining(features.positions)
    # Counted from the failure, so that the last cycles of every life stay.
    kept = remaining % stride == 0
    return features.matrix[kept], remaining[kept]


def build_matrix(
    snapshot: Snapshot,
    trained_on: Collection[UUID],
    rul_cap: int,
    *,
    max_rows: int = MAX_ROWS,
    on_life: Callable[[], None] = lambda: None,
) -> Matrix:
    """Compute the features of the training devices; of too many rows, every n-th is kept.

    Args:
        snapshot: The dataset.
        trained_on: Devices to fit on; no other is read.
        rul_cap: Target is min(remaining cycles, rul_cap).
        max_rows: Bound on the rows, and so on memory.
        on_life: Called after each life; may raise to stop.
    """
    spec = FeatureSpec(metrics=varying_metrics(snapshot, trained_on))
    rows = sum(
        len(life.history.recent) for life in snapshot.lives() if life.device_id in trained_on
    )
    stride = max(1, -(-rows // max_rows))
    matrices, targets = [], []
    for life in snapshot.lives():
        if life.device_id in trained_on:
            matrix, remaining = _thinned(life, spec, stride)
            matrices.append(matrix)
            targets.append(np.minimum(remaining, rul_cap).astype(np.float32))
            on_life()
    return Matrix(spec, np.vstack(matrices), np.concatenate(targets))


def save_matrix(matrix: Matrix, folder: Path) -> str:
    """Write a matrix into a folder of its own; return the manifest's digest."""
    frame = pl.DataFrame(matrix.x, schema=matrix.spec.names).with_columns(
        pl.Series(_TARGET, matrix.y)
    )
    replace_atomically(folder / _FILE, frame.write_parquet)
    return seal(folder, {"spec": matrix.spec.model_dump(mode="json")})


def load_matrix(folder: Path, sha256: str) -> Matrix:
    """Read a matrix.

    Raises:
        ArtifactDamagedError: It is not what was written.
    """
    spec = FeatureSpec.model_validate(open_sealed(folder, sha256)["spec"])
    frame = pl.read_parquet(folder / _FILE)
    y = frame[_TARGET].to_numpy()
    x = frame.select(spec.names).to_numpy(order="c")
    return Matrix(spec, np.ascontiguousarray(x, dtype=np.float32), y.astype(np.float32))
